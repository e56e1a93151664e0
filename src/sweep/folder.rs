//! State of a run, read from its folder.

use std::fs;
use std::io;

use indexmap::IndexMap;
use serde::Serialize;

use super::{Run, SweepError};
use crate::checkpoint::{self, CONFIG, HISTORY, LAST};
use crate::config::Config;
use crate::options::choices;
use crate::report::EpochRecord;
use crate::train::is_finished;

/// Name of the file with the reason why a run failed.
pub(super) const FAILURE: &str = "error.txt";

choices! {
    /// How far a run has come.
    pub Status {
        /// Nothing is left to train.
        Finished = "finished",
        /// Its process ended with an error.
        Failed = "failed",
        /// It was started, and is resumed when the sweep is started again.
        Interrupted = "interrupted",
        /// A process is training it.
        Running = "running",
        /// It has not been started.
        Waiting = "waiting",
    }
}

/// The best epoch of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Best {
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Validation score.
    pub score: f64,
    /// Balanced accuracy of each task with labels.
    pub tasks: IndexMap<String, f64>,
}

/// Status and results of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// How far the run has come.
    pub status: Status,
    /// Why the run failed, or why its history cannot be read.
    pub reason: Option<String>,
    /// Number of finished epochs.
    pub epochs: usize,
    /// Time that the finished epochs took, seconds.
    pub seconds: f64,
    /// Best of the finished epochs.
    pub best: Option<Best>,
}

/// Reads the status and results of a run from its folder. Whether it is running now, only its lock can tell.
pub(super) fn read_result(run: &Run) -> RunResult {
    let (history, unreadable) = match history(run) {
        Ok(history) => (history, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let failure = fs::read_to_string(run.folder.join(FAILURE)).ok();
    let status = if !history.is_empty() && is_finished(&run.config, &history) {
        Status::Finished
    } else if failure.is_some() {
        Status::Failed
    } else if checkpoint::holds_run(&run.folder) {
        Status::Interrupted
    } else {
        Status::Waiting
    };
    let failure = failure.filter(|_| status == Status::Failed);
    let seconds = history.iter().map(|record| record.train.seconds + record.valid.seconds).sum();
    let best = history.iter().rfind(|record| record.best).map(|record| Best {
        epoch: record.epoch,
        score: record.score,
        tasks: record
            .valid
            .tasks
            .iter()
            .filter(|task| task.has_labels())
            .map(|task| (task.task.clone(), task.balanced_accuracy))
            .collect(),
    });
    let reason = failure.map(|text| text.trim().to_owned()).or(unreadable);
    RunResult { status, reason, epochs: history.len(), seconds, best }
}

fn history(run: &Run) -> Result<Vec<EpochRecord>, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{HISTORY} cannot be read: {error}");
    match fs::read(run.folder.join(HISTORY)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fail(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fail(&error)),
    }
}

/// Returns the configuration of the run that the folder holds; `None` if it holds none.
///
/// # Errors
/// A folder that holds a run with other options, or a run whose options cannot be read.
pub(super) fn check(run: &Run) -> Result<Option<Config>, SweepError> {
    if !checkpoint::holds_run(&run.folder) {
        return Ok(None);
    }
    let refuse = |reason: String| SweepError::Folder { folder: run.folder.clone(), reason };
    let unreadable =
        |reason: String| refuse(format!("it holds a run whose {CONFIG} cannot be read: {reason}"));
    let text =
        fs::read_to_string(run.folder.join(CONFIG)).map_err(|e| unreadable(e.to_string()))?;
    let stored: Config = toml::from_str(&text).map_err(|e| unreadable(e.message().to_owned()))?;
    let changes = run.config.changes_from(&stored);
    if changes.is_empty() {
        return Ok(Some(stored));
    }
    Err(refuse(format!("it holds a run with other options: {}", changes.join(", "))))
}

/// Returns whether a run has a checkpoint to resume from.
pub(super) fn has_checkpoint(run: &Run) -> bool {
    run.folder.join(LAST).exists()
}
