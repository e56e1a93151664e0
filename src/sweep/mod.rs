//! A set of training runs: one file of options, one folder per run.
//!
//! [`Sweep::load`] expands the file to runs and checks the options of all of them; [`Sweep::run`] trains
//! each in a child process, so that a failing run does not affect the others. The state of a run is read
//! from its folder alone: several processes may work on one sweep, and any of them may be started again.

mod draw;
mod expand;
mod file;
mod folder;
mod job;
mod name;
mod results;
mod schedule;

use std::path::PathBuf;

use indexmap::IndexMap;

use crate::checkpoint::CheckpointError;
use crate::config::{Config, ConfigError};
use crate::runs::REPEATED;

pub use folder::{Best, RunResult, Status};
pub use results::{Combination, Scored, combinations, results_csv, scored};
pub use schedule::SweepEvent;

/// Name of the table of all runs.
pub const TABLE: &str = "sweep.csv";
/// Name of the frame cache that the runs share.
pub(crate) const FRAMES: &str = "frames";

/// Why a sweep cannot be started, or its table cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The file cannot be read or understood.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, key and what is wrong.
        reason: String,
    },
    /// The options of a run make no sense together.
    #[error("{}: {}: {source}", .path.display(), run_label(.run))]
    Run {
        /// The sweep's file.
        path: PathBuf,
        /// The run's name.
        run: String,
        /// The option and what is wrong.
        source: Box<ConfigError>,
    },
    /// A folder holds a run other than the one that belongs there.
    #[error("{}: {reason}", .folder.display())]
    Folder {
        /// The run's folder.
        folder: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The table lists runs of another sweep.
    #[error("{}: lists runs that are not part of this sweep: {runs}", .table.display())]
    Others {
        /// The table.
        table: PathBuf,
        /// Name of the first of them, and the number of others.
        runs: String,
    },
    /// A file of the sweep cannot be written.
    #[error(transparent)]
    Write(#[from] CheckpointError),
}

/// Names a run in a message. The only run of a sweep has no name of its own.
fn run_label(name: &str) -> String {
    if name == "run" { name.to_owned() } else { format!("run {name}") }
}

/// One run of a sweep.
#[derive(Debug, Clone)]
pub struct Run {
    /// Name of the run and its folder, made of the options in which it differs from the others.
    pub name: String,
    /// Folder of the run.
    pub folder: PathBuf,
    /// Name of its set of options in `[variants]`.
    pub variant: Option<String>,
    /// Values of the options in `[grid]` and `[random]`, in the file's order.
    pub options: IndexMap<String, String>,
    /// Seed from `seeds`.
    pub seed: Option<u64>,
    /// Options that are not common to all runs, by name, as text.
    pub own: IndexMap<String, String>,
    /// All options of the run.
    pub config: Config,
}

/// A set of runs.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Folder that contains the runs' folders.
    pub out: PathBuf,
    /// Options that the file gives to all runs, by name, as text.
    pub common: IndexMap<String, String>,
    /// The runs. Seeds vary fastest, then random draws, then the grid's values (of which the last option's
    /// vary fastest), then variants, in the file's order.
    pub runs: Vec<Run>,
}

impl Sweep {
    /// Returns the names of the options in `[grid]` and `[random]`, in the file's order.
    pub fn varied(&self) -> impl Iterator<Item = &String> {
        self.runs.iter().take(1).flat_map(|run| run.options.keys())
    }

    /// Returns the options whose values the table of combinations averages over: `seed`, `fold`, both or
    /// none.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = &'static str> {
        let has_seeds = self.runs.iter().any(|run| run.seed.is_some());
        let varies = move |name: &str| {
            (name == "seed" && has_seeds) || self.varied().any(|varied| varied == name)
        };
        REPEATED.into_iter().filter(move |name| varies(name))
    }
}
