//! State of a run, read from its folder.

use std::fs;

use indexmap::IndexMap;
use serde::Serialize;

use super::{Run, SweepError};
use crate::checkpoint::{self, CONFIG, FAILURE, HISTORY, LAST, run_folder};
use crate::config::Config;
use crate::options::choices;
use crate::report::{EpochRecord, best_epoch};
use crate::train::is_finished;

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
    /// Wall time of the finished epochs, seconds.
    pub seconds: f64,
    /// Best of the finished epochs.
    pub best: Option<Best>,
}

/// Reads the status and results of a run from its folder. Whether it is running now, only its lock can tell.
pub(super) fn read_result(run: &Run) -> RunResult {
    let (history, unreadable) = match run_folder::history(&run.folder) {
        Ok(history) => (history, None),
        Err(error) => (Vec::new(), Some(format!("{HISTORY} cannot be read: {error}"))),
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
    let seconds = history.iter().map(EpochRecord::seconds).sum();
    let best = best_epoch(&history).map(|record| Best {
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

/// Returns the configuration of the run that the folder holds; `None` if it holds none.
///
/// # Errors
/// A folder that holds a run with other options, or a run whose options cannot be read.
pub(super) fn check(run: &Run) -> Result<Option<Config>, SweepError> {
    if !checkpoint::holds_run(&run.folder) {
        return Ok(None);
    }
    let refuse = |reason: String| SweepError::Folder { folder: run.folder.clone(), reason };
    let (stored, _) = run_folder::config(&run.folder).map_err(|error| {
        refuse(format!("it holds a run whose {CONFIG} cannot be read: {error}"))
    })?;
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
