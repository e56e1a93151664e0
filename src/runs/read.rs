//! Reading a run's folder.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::RunsError;
use crate::checkpoint::{HISTORY, RunFileError, VALID_PREDICTIONS, run_folder};
use crate::evaluate::{PredictionTable, matrices};
use crate::report::{EpochRecord, best_epoch};

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
        let options = options(path)?;
        let history = run_folder::history(path)?;
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

/// Returns the options of a run. Those that its version did not have get their defaults.
fn options(folder: &Path) -> Result<BTreeMap<String, toml::Value>, RunFileError> {
    let (config, written) = run_folder::config(folder)?;
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

/// Returns the predictions of the best epoch, or why there are none.
fn predictions(
    path: &Path,
    history: &[EpochRecord],
) -> Result<Result<PredictionTable, String>, RunFileError> {
    let Some(best) = best_epoch(history) else {
        return Ok(Err("no epoch is finished yet".to_owned()));
    };
    let Some(bytes) = run_folder::content(path)? else {
        return Ok(Err(format!("has no {VALID_PREDICTIONS}, which older versions did not write")));
    };
    let damaged = |error: &dyn Display| RunFileError::damaged(path, error);
    let table = PredictionTable::parse(&bytes).map_err(|error| damaged(&error))?;
    let confusion =
        matrices(&table.answers(), &table.classes()).map_err(|error| damaged(&error))?;
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
