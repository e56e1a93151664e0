//! Comparison of training runs, which are read from their folders: the results of each, the options in
//! which they differ, and the confidence intervals of their differences.

mod curves;
mod find;
mod options;
mod page;
mod paired;
mod read;
mod repeats;
mod table;

use std::path::PathBuf;

use crate::checkpoint::RunFileError;

pub use find::{RunFolder, find, names, read_all};
pub use options::DifferingOption;
pub use page::page;
pub(crate) use page::{is_page, signed};
pub use paired::{ClassDifference, RunDifference, TaskDifference};
pub use read::Run;
pub(crate) use repeats::REPEATED;
pub use repeats::Repeats;
pub use table::{RunSummary, RunTable, TaskSummary};

/// Why runs cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// A folder that is not a run and contains none.
    #[error("{}: is not the folder of a run, and no folder in it is one", .path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to compare with.
    #[error("a comparison needs two runs or more, but there is {found}")]
    TooFew {
        /// Number of runs.
        found: usize,
    },
    /// A file or folder that cannot be read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A run's file that cannot be understood.
    #[error("{}: cannot be understood: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line if known.
        reason: String,
    },
}

impl From<RunFileError> for RunsError {
    fn from(error: RunFileError) -> Self {
        match error {
            RunFileError::Read { path, source } => Self::Read { path, source },
            RunFileError::Damaged { path, reason } => Self::Damaged { path, reason },
        }
    }
}
