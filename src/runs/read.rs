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

/// A run as its folder has it.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name among the runs that it is compared with.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// The finished epochs, in order.
    pub history: Vec<EpochRecord>,
    /// Each option's value.
    pub options: BTreeMap<String, toml::Value>,
    /// The best epoch's predictions for the validation split.
    pub predictions: Option<PredictionTable>,
    /// Why it has none, where it has not.
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

    /// The epoch of the best weights; `None` before the first epoch is finished.
    pub fn best(&self) -> Option<&EpochRecord> {
        best_epoch(&self.history)
    }
}

fn damaged(path: &Path, reason: impl ToString) -> RunsError {
    // Parsers' messages may show the line, with a mark below it.
    let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    RunsError::Damaged { path: path.to_owned(), reason }
}

/// A file's content; `None` if it does not exist.
fn content(path: &Path) -> Result<Option<Vec<u8>>, RunsError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RunsError::Read { path: path.to_owned(), source }),
    }
}

/// The options of a run, those that its version did not have at the value that stands for them.
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
    // What this version does not know is an option too.
    let mut options: BTreeMap<_, _> = written.into_iter().chain(known).collect();
    if let Some(toml::Value::String(root)) = options.get_mut(DATASET_ROOT) {
        *root = absolute(root);
    }
    Ok(options)
}

/// A path that exists, in the form that does not depend on where the program was started: of two runs on the
/// same data one may have been given it as a relative path.
fn absolute(path: &str) -> String {
    match std::path::absolute(path) {
        Ok(absolute) if absolute.exists() => {
            absolute.components().collect::<PathBuf>().to_string_lossy().into_owned()
        }
        _ => path.to_owned(),
    }
}

fn history(path: &Path) -> Result<Vec<EpochRecord>, RunsError> {
    // A run in its first epoch has none.
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

/// The predictions of the best epoch, or why there are none.
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
    let found =
        matrices(&table.answers(), &table.classes()).map_err(|error| damaged(path, error))?;
    // The matrices say whether they are those of the epoch: a run that is killed or writing has newer
    // predictions than history, one that was resumed from an earlier epoch may have later ones.
    let same = table.tasks.len() == best.valid.tasks.len()
        && table.tasks.iter().zip(&found).zip(&best.valid.tasks).all(
            |(((name, _), matrix), record)| {
                *name == record.task && matrix.rows() == record.confusion
            },
        );
    Ok(if same {
        Ok(table)
    } else {
        let (epoch, file) = (best.epoch, VALID_PREDICTIONS);
        Err(format!("{file} is not of epoch {epoch}, the best in {HISTORY}"))
    })
}
