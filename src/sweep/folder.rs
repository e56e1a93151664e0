//! What a run's folder says of it.

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
        /// It began and goes on when the sweep is started again.
        Interrupted = "interrupted",
        /// A process trains it.
        Running = "running",
        /// It has not begun.
        Waiting = "waiting",
    }
}

/// The best epoch of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Best {
    /// Counted from 1.
    pub epoch: usize,
    /// Validation score.
    pub score: f64,
    /// Balanced accuracy by task.
    pub tasks: IndexMap<String, f64>,
}

/// What is known of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// How far it has come.
    pub status: Status,
    /// Why it failed, or cannot go on.
    pub reason: Option<String>,
    /// Finished epochs.
    pub epochs: usize,
    /// Time that they took, seconds.
    pub seconds: f64,
    /// The best of them.
    pub best: Option<Best>,
}

/// Reads what a run's folder has: whether it runs now is for its lock to say.
pub(super) fn look(run: &Run) -> RunResult {
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

/// The configuration of the run that a folder holds; `None` if it holds none.
///
/// # Errors
/// A folder that holds a run with other options, or one whose options are not known.
pub(super) fn check(run: &Run) -> Result<Option<Config>, SweepError> {
    if !checkpoint::holds_run(&run.folder) {
        return Ok(None);
    }
    let refuse = |reason: String| SweepError::Folder { folder: run.folder.clone(), reason };
    let unreadable =
        |reason: String| refuse(format!("it holds a run whose {CONFIG} cannot be read: {reason}"));
    let text =
        fs::read_to_string(run.folder.join(CONFIG)).map_err(|e| unreadable(e.to_string()))?;
    let there: Config = toml::from_str(&text).map_err(|e| unreadable(e.message().to_owned()))?;
    let changes = run.config.changes_from(&there);
    if changes.is_empty() {
        return Ok(Some(there));
    }
    Err(refuse(format!("it holds a run with other options: {}", changes.join(", "))))
}

/// Whether a run has a checkpoint to go on from.
pub(super) fn has_checkpoint(run: &Run) -> bool {
    run.folder.join(LAST).exists()
}
