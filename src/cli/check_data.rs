//! `polyview check-data`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{CommandResult, Terminal, print_json, print_text};
use crate::config::{ClipConfig, load_schema};
use crate::data::check::check_dataset;
use crate::data::sampling::WindowSpec;
use crate::data::video::verify_clip;

/// Options as typed.
#[derive(Debug, Args)]
pub(super) struct CheckDataArgs {
    /// Folder that contains mvfouls/{train,valid,…}, or the split folders themselves
    #[arg(long, value_name = "DIR")]
    dataset_root: PathBuf,
    /// Schema of another data set (TOML) [default: SoccerNet-MVFoul]
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// First frame of the sampling window that clips must contain
    #[arg(long, value_name = "N", default_value_t = ClipConfig::default().start_frame)]
    start_frame: usize,
    /// Last frame of the sampling window that clips must contain
    #[arg(long, value_name = "N", default_value_t = ClipConfig::default().end_frame)]
    end_frame: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CheckDataArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        let schema = load_schema(self.schema.as_deref())?;
        let window = WindowSpec {
            start_frame: self.start_frame,
            end_frame: self.end_frame,
            ..ClipConfig::default().window()
        };
        let bar = terminal.counter("clips");
        let checked =
            check_dataset(&self.dataset_root, &schema, &window, verify_clip, |done, of| {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            });
        bar.finish_and_clear();
        let report = checked?;
        if self.json {
            print_json(&report)?;
        } else {
            print_text(&report.render())?;
        }
        Ok(ExitCode::from(u8::from(report.has_errors())))
    }
}
