//! Reading a run's folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::RunsError;
use crate::checkpoint::{CONFIG, HISTORY, VALID_PREDICTIONS};
use crate::config::Config;
use crate::evaluate::{PredictionTable, matrices};
use crate::report::EpochRecord;
use crate::report::curves::best_epoch;

/// The option that names the data set.
const DATASET_ROOT: &str = "dataset-root";

/// A run as stored in its folder.
#[derive(Debug, Clone)]
pub struct Run {
    /// Name of the run among those that it is compared with.
    pub name: String,
    /// Folder of the run.
    pub path: PathBuf,
    /// Finished epochs, in order.
    pub history: Vec<EpochRecord>,
    /// Values of the options, by name.
    pub options: BTreeMap<String, toml::Value>,
    /// Predictions of the best epoch for the validation split.
    pub predictions: Option<PredictionTable>,
    /// Why there are no predictions, if there are none.
    pub without: Option<String>,
}

impl Run {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// [`RunsError::Read`] and [`RunsError::Damaged`].
    pub fn read(name: &str, path: &Path) -> Result<Self, RunsError> {
        let options = options(&path.join(CONFIG))?;
        let history = history(&path.join(HISTORY))?;
        let (predictions, without) = match predictions(&path.join(VALID_PREDICTIONS), &history)? {
            Ok(table) => (Some(table), None),
            Err(without) => (None, Some(without)),
        };
        let (name, path) = (name.to_owned(), path.to_owned());
        Ok(Self { name, path, history, options, predictions, without })
    }

    /// Returns the epoch of the best weights; `None` before the first epoch is finished.
    pub fn best(&self) -> Option<&EpochRecord> {
        best_epoch(&self.history)
    }
}

fn damaged(path: &Path, reason: impl ToString) -> RunsError {
    // Parsers' messages may show the line with a mark below it; this joins them to one line.
    let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    RunsError::Damaged { path: path.to_owned(), reason }
}

/// Returns a file's content; `None` if it does not exist.
fn content(path: &Path) -> Result<Option<Vec<u8>>, RunsError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RunsError::Read { path: path.to_owned(), source }),
    }
}

/// Returns the options of a run. Those that its version did not have get their defaults.
fn options(path: &Path) -> Result<BTreeMap<String, toml::Value>, RunsError> {
    let absent =
        || RunsError::Read { path: path.to_owned(), source: io::ErrorKind::NotFound.into() };
    let bytes = content(path)?.ok_or_else(absent)?;
    let text = str::from_utf8(&bytes).map_err(|error| damaged(path, error))?;
    let fail = |error: toml::de::Error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        damaged(path, format!("{line}{}", error.message()))
    };
    let written: toml::Table = toml::from_str(text).map_err(fail)?;
    let config: Config = toml::from_str(text).map_err(fail)?;
    let known = toml::Table::try_from(config).expect("a configuration is a table");
    // Options that this version does not know are kept.
    let mut options: BTreeMap<_, _> = written.into_iter().chain(known).collect();
    if let Some(toml::Value::String(root)) = options.get_mut(DATASET_ROOT) {
        *root = absolute(root);
    }
    Ok(options)
}

/// Returns a path, made absolute if it exists: of two runs on the same data, one may have been given a
/// relative path.
fn absolute(path: &str) -> String {
    match std::path::absolute(path) {
        Ok(absolute) if absolute.exists() => {
            absolute.components().collect::<PathBuf>().to_string_lossy().into_owned()
        }
        _ => path.to_owned(),
    }
}

fn history(path: &Path) -> Result<Vec<EpochRecord>, RunsError> {
    // A run in its first epoch has no history yet.
    let Some(bytes) = content(path)? else { return Ok(Vec::new()) };
    let history: Vec<EpochRecord> =
        serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))?;
    let share = |value: &f64| (0.0..=1.0).contains(value);
    for record in &history {
        let tasks = record.train.tasks.iter().chain(&record.valid.tasks);
        let mut shares = tasks.map(|task| task.balanced_accuracy).chain([record.score]);
        if let Some(value) = shares.find(|value| value.is_finite() && !share(value)) {
            let reason = format!("epoch {}: a score of {value:e} is not from 0 to 1", record.epoch);
            return Err(damaged(path, reason));
        }
    }
    Ok(history)
}

/// Returns the predictions of the best epoch, or why there are none.
fn predictions(
    path: &Path,
    history: &[EpochRecord],
) -> Result<Result<PredictionTable, String>, RunsError> {
    let Some(best) = best_epoch(history) else {
        return Ok(Err("no epoch is finished yet".to_owned()));
    };
    let Some(bytes) = content(path)? else {
        return Ok(Err(format!("has no {VALID_PREDICTIONS}, which older versions did not write")));
    };
    let table = PredictionTable::parse(&bytes).map_err(|error| damaged(path, error))?;
    let confusion =
        matrices(&table.answers(), &table.classes()).map_err(|error| damaged(path, error))?;
    // The confusion matrices show whether the predictions are those of the epoch: a run that was killed or
    // is writing may have newer predictions than history, one that was resumed from an earlier epoch may
    // have those of a later one.
    let same = table.tasks.len() == best.valid.tasks.len()
        && table.tasks.iter().zip(&confusion).zip(&best.valid.tasks).all(
            |(((name, _), matrix), record)| {
                *name == record.task && matrix.rows() == record.confusion
            },
        );
    Ok(if same {
        Ok(table)
    } else {
        let (epoch, file) = (best.epoch, VALID_PREDICTIONS);
        Err(format!("{file} is not from epoch {epoch}, the best in {HISTORY}"))
    })
}
