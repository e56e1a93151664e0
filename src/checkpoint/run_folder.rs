//! The folder of a run: the names of its files, and reading those that are not checkpoints.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::report::EpochRecord;

/// Weights of the best epoch.
pub const BEST: &str = "best.safetensors";
/// Weights after the last finished epoch, or after the last step before an interruption.
pub const LAST: &str = "last.safetensors";
/// Metrics of every epoch.
pub const HISTORY: &str = "history.json";
/// Predictions of the best epoch for the validation split.
pub const VALID_PREDICTIONS: &str = "valid_predictions.csv";
/// The resolved configuration.
pub const CONFIG: &str = "config.toml";
/// The HTML report.
pub const REPORT: &str = "report.html";
/// The table of metrics.
pub const METRICS: &str = "metrics.csv";
/// Folder of the TensorBoard event files.
pub const TENSORBOARD: &str = "tensorboard";
/// Output of a run of a sweep.
pub(crate) const LOG: &str = "log.txt";
/// Reason why a run of a sweep failed.
pub(crate) const FAILURE: &str = "error.txt";

/// Why a run's file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFileError {
    #[error("{source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{reason}")]
    Damaged { path: PathBuf, reason: String },
}

impl RunFileError {
    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        // Parsers' messages may show the line with a mark below it; this joins them to one line.
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Damaged { path: path.to_owned(), reason }
    }
}

/// Returns a file's content; `None` if it does not exist.
pub(crate) fn content(path: &Path) -> Result<Option<Vec<u8>>, RunFileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RunFileError::Read { path: path.to_owned(), source }),
    }
}

/// Returns the records of a run's finished epochs; empty until the first one has finished.
///
/// # Errors
/// The file cannot be read or parsed, or contains a score outside 0 to 1.
pub(crate) fn history(folder: &Path) -> Result<Vec<EpochRecord>, RunFileError> {
    let path = folder.join(HISTORY);
    let Some(bytes) = content(&path)? else { return Ok(Vec::new()) };
    let history: Vec<EpochRecord> =
        serde_json::from_slice(&bytes).map_err(|error| RunFileError::damaged(&path, error))?;
    let share = |value: &f64| (0.0..=1.0).contains(value);
    for record in &history {
        let tasks = record.train.tasks.iter().chain(&record.valid.tasks);
        let mut shares = tasks.map(|task| task.balanced_accuracy).chain([record.score]);
        if let Some(value) = shares.find(|value| value.is_finite() && !share(value)) {
            let reason = format!("epoch {}: a score of {value:e} is not from 0 to 1", record.epoch);
            return Err(RunFileError::damaged(&path, reason));
        }
    }
    Ok(history)
}

/// Returns the configuration of a run, and the options in its file, including those unknown to this version.
/// Options that the run's version did not have get their defaults.
///
/// # Errors
/// The file does not exist, or cannot be read or parsed.
pub(crate) fn config(folder: &Path) -> Result<(Config, toml::Table), RunFileError> {
    let path = folder.join(CONFIG);
    let absent =
        || RunFileError::Read { path: path.clone(), source: io::ErrorKind::NotFound.into() };
    let bytes = content(&path)?.ok_or_else(absent)?;
    let text = str::from_utf8(&bytes).map_err(|error| RunFileError::damaged(&path, error))?;
    let fail = |error: toml::de::Error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        RunFileError::damaged(&path, format!("{line}{}", error.message()))
    };
    let written = toml::from_str(text).map_err(fail)?;
    Ok((toml::from_str(text).map_err(fail)?, written))
}

/// Returns whether a file is directly in a folder.
pub(crate) fn is_directly_in(file: &Path, folder: &Path) -> bool {
    let same = || Some(file.canonicalize().ok()?.parent()? == folder.canonicalize().ok()?);
    same().unwrap_or(false)
}
