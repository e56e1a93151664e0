//! The best weights of a run that is not resumed from its folder's last checkpoint: the score to
//! beat must belong to weights that are in the folder.

use std::fs;
use std::path::Path;

use super::error::TrainError;
use super::pair::state_of;
use crate::atomic_file::patiently;
use crate::checkpoint::{self, BEST, CheckpointError, LAST, VALID_PREDICTIONS};
use crate::config::{AUTO, Config};
use crate::report::{EpochRecord, best_epoch};

/// Name of the state file that belongs to [`BEST`].
const BEST_STATE: &str = "best.state";

/// Copies the best weights of this history to the run's folder, and moves those of any other epoch
/// aside. The weights that the run resumes from may be the best ones, unless they were written
/// `within_epoch`. Returns the score to beat: `score`, or the configured `resume_best_acc` if the
/// best weights were not found.
///
/// # Errors
/// Files that cannot be written.
pub(super) fn keep_best(
    config: &Config,
    history: &[EpochRecord],
    score: Option<f64>,
    within_epoch: bool,
) -> Result<Option<f64>, TrainError> {
    let folder = &config.run.save_dir;
    let from = match &config.run.resume {
        Some(from) if from.as_os_str() != AUTO => from.with_extension("safetensors"),
        _ => return Ok(score),
    };
    let own = checkpoint::is_directly_in(&from, folder);
    if own && from.file_name().is_some_and(|name| name == LAST) {
        return Ok(score);
    }
    let best = best_epoch(history);
    let there = from.parent().unwrap_or(Path::new("")).join(BEST);
    if best.is_some_and(|best| is_of(&there, best)) {
        if !own {
            copy(&there, folder)?;
        }
        return Ok(score);
    }
    if own && there.exists() {
        let names = [BEST, BEST_STATE, VALID_PREDICTIONS];
        let aside = checkpoint::move_files_aside(folder, &names)?;
        log::warn!(
            "{} is resumed from an earlier epoch: the best weights, of a later one, are now in {}",
            folder.display(),
            aside.display()
        );
    }
    // Weights written within an epoch carry the number of the epoch before.
    if !within_epoch && best.is_some_and(|best| is_of(&from, best)) {
        for (path, name) in [(state_of(&from), BEST_STATE), (from.clone(), BEST)] {
            copy_file(&path, &folder.join(name))?;
        }
        return Ok(score);
    }
    if let Some(best) = best {
        log::warn!(
            "the weights of the best epoch so far ({}, score {:.3}) are not in the folder of {}: the next \
             epoch will count as the best",
            best.epoch,
            best.score,
            from.display()
        );
    }
    Ok(config.run.resume_best_acc)
}

/// Returns whether a file has the weights of this epoch.
fn is_of(weights: &Path, epoch: &EpochRecord) -> bool {
    checkpoint::read(weights)
        .is_ok_and(|(info, ..)| info.epoch == epoch.epoch && same(info.score, epoch.score))
}

/// Compares scores with a tolerance: a weight file stores its score as JSON, which may change the
/// last digit when read back.
fn same(read: Option<f64>, score: f64) -> bool {
    read.is_some_and(|read| (read - score).abs() <= 1e-12)
}

/// Copies the best weights, their state file and the predictions to a run's folder.
fn copy(weights: &Path, folder: &Path) -> Result<(), TrainError> {
    let predictions = weights.with_file_name(VALID_PREDICTIONS);
    for (path, needed) in [(state_of(weights), false), (predictions, false), (weights.into(), true)]
    {
        let name = path.file_name().expect("a run's file has a name");
        if needed || path.exists() {
            copy_file(&path, &folder.join(name))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), TrainError> {
    let copied = patiently(|| fs::copy(from, to));
    copied.map(|_| ()).map_err(|source| CheckpointError::Write { path: to.into(), source }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_read_back_counts_as_the_same() {
        // Some means of two ratios are read back with a different last digit.
        let scores =
            (1..60).flat_map(|n| (1..n).map(move |k| (k as f64 / n as f64 + 1.0 / 7.0) / 2.0));
        for score in scores {
            let text = serde_json::to_string(&score).expect("a finite number");
            let read: f64 = serde_json::from_str(&text).expect("a number");
            assert!(same(Some(read), score), "{score}");
        }
        assert!(!same(Some(0.5), 0.5 + 1e-6) && !same(None, 0.5));
    }
}
