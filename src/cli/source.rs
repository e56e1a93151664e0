//! The data set that a command reads.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::data::DataSource;
use crate::data::source::{Format, Partition, SourceSpec};
use crate::options::choice;
use crate::schema::Schema;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The data set: mvfouls/{train,valid,…}, a folder of clips per class, a table or lists
    #[arg(long, value_name = "DIR")]
    pub dataset_root: PathBuf,
    /// Schema of the data set (TOML) [default: SoccerNet-MVFoul, or inferred from the labels]
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// How the data set lists its actions [default: detected]
    #[arg(long, value_name = "NAME", value_parser = choice::<Format>())]
    pub format: Option<Format>,
}

impl SourceArgs {
    /// Opens the data set and logs what was inferred.
    pub(super) fn open(&self) -> Result<DataSource, Failure> {
        self.open_with(Partition::default())
    }

    /// Opens the data set; splits that it lacks are made according to `partition`.
    pub(super) fn open_with(&self, partition: Partition) -> Result<DataSource, Failure> {
        let schema =
            self.schema.as_deref().map(Schema::load).transpose().map_err(Failure::usage)?;
        let source = DataSource::open(&SourceSpec {
            root: self.dataset_root.clone(),
            format: self.format,
            schema,
            partition,
        })?;
        source.notes().iter().for_each(|note| log::info!("{note}"));
        Ok(source)
    }
}
