//! Where the clips come from, and how they are read.

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{CacheChoice, PartitionChoice};
use crate::data::loader::Prefetch;
use crate::data::source::Format;
use crate::device::main_memory;
use crate::options::{self, RESUME_MAY_CHANGE, choice, option_defaults};

/// Data set, loader and frame cache.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Data")]
pub struct DataConfig {
    /// The data set: mvfouls/{train,valid}, a folder of clips per class, a table or lists
    #[arg(long, value_name = "DIR", group = RESUME_MAY_CHANGE)]
    #[serde(with = "options::path_text")]
    #[arg(value_parser = options::path_or_empty(), default_value = "", hide_default_value = true)]
    pub dataset_root: PathBuf,
    /// Schema of the data set (TOML) [default: SoccerNet-MVFoul, or inferred from the labels]
    #[arg(long, value_name = "FILE", value_parser = options::path())]
    #[serde(with = "options::optional_path_text", skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// Which of the schema's tasks to train [default: all]
    #[arg(long, value_name = "NAME", num_args = 1.., action = clap::ArgAction::Set)]
    pub tasks: Vec<String>,
    /// How the data set lists its actions [default: detected]
    #[arg(long, value_name = "NAME", value_parser = choice::<Format>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How splits that the data set lacks are made.
    #[command(flatten)]
    #[serde(flatten)]
    pub partition: PartitionChoice,
    /// Decoding threads; 0 decodes in the training thread
    #[arg(long, value_name = "N", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = options::between(0, 256), default_value_t = usual_workers())]
    pub num_workers: usize,
    /// Batches that the decoding threads read ahead
    #[arg(long, value_name = "N", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = options::between(1, 1024), default_value_t = 4)]
    pub prefetch: usize,
    /// Maximum main memory for frames read ahead, megabytes
    #[arg(long, value_name = "MB", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = options::size, default_value_t = usual_loader_memory())]
    pub loader_memory: u64,
    /// Cache folder for decoded frames, which runs may share; auto: SAVE_DIR/frames; off: no cache
    #[arg(long, value_name = "DIR", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = CacheChoice::parser(), default_value = "auto")]
    pub cache: CacheChoice,
    /// Maximum disk space for decoded frames, gigabytes; the least recently used are evicted
    #[arg(long, value_name = "GB", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = options::positive, default_value = "64")]
    pub cache_size: f64,
}

option_defaults!(DataConfig);

/// Returns the default memory for frames read ahead, megabytes: a quarter of the memory that the machine or
/// its container has, between 64 and 2048.
fn usual_loader_memory() -> u64 {
    static USUAL: OnceLock<u64> = OnceLock::new();
    *USUAL.get_or_init(|| share_of(main_memory().total))
}

fn share_of(total: u64) -> u64 {
    (total >> 22).clamp(64, 2048)
}

/// Returns the default number of decoding threads: 4, or fewer if the program has fewer cores, which a
/// container or a job may limit.
pub(crate) fn usual_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

impl DataConfig {
    /// Returns how far the loader reads ahead.
    pub fn ahead(&self) -> Prefetch {
        let (workers, batches) = (self.num_workers, self.prefetch);
        Prefetch { workers, batches, bytes: self.loader_memory << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ahead_takes_a_quarter_of_a_small_memory() {
        let shares = [0, 1 << 30, 4 << 30, 64 << 30].map(share_of);
        assert_eq!(shares, [64, 256, 1024, 2048]);
    }
}
