//! Writes a run's files: configuration, checkpoints, history.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::error::TrainError;
use super::pair::{drop_older, save_pair};
use super::state::Snapshot;
use crate::checkpoint::{self, CheckpointError, CheckpointInfo, FolderLock};
use crate::config::{AUTO, Auto, Config};
use crate::evaluate::{ActionPrediction, predictions_csv};
use crate::report::{EpochRecord, improves};
use crate::schema::Schema;

/// The folder of a run, before anything is written to it.
pub(super) struct RunFolder<'a> {
    config: &'a Config,
    /// Whether this process writes the run's files.
    writes: bool,
    /// Lock that keeps other runs out of the folder.
    lock: Option<FolderLock>,
}

impl<'a> RunFolder<'a> {
    /// Creates the run's folder, checks that it is writable and locks it against other runs; leaves the
    /// file system alone unless `writes` is set.
    pub(super) fn open(config: &'a Config, writes: bool) -> Result<Self, TrainError> {
        if !writes {
            return Ok(Self { config, writes, lock: None });
        }
        checkpoint::prepare_folder(&config.run.save_dir)?;
        let lock = FolderLock::take(&config.run.save_dir)?;
        if lock.is_locked() {
            checkpoint::remove_leftovers(&config.run.save_dir);
        }
        keep_earlier_run(config)?;
        Ok(Self { config, writes, lock: Some(lock) })
    }
}

/// Writes a run's files. Writes nothing in a test run, or if another rank does.
pub(super) struct CheckpointWriter<'a> {
    config: &'a Config,
    writes: bool,
    /// Description stored in the next checkpoint.
    info: CheckpointInfo,
    /// Highest score so far.
    best_score: Option<f64>,
    /// Weight files written so far.
    pub files: Vec<PathBuf>,
    last: Instant,
    lanes: usize,
    /// Digests of the training and the validation split.
    data: [u32; 2],
    lock: Option<FolderLock>,
}

impl<'a> CheckpointWriter<'a> {
    /// Writes the configuration of a run with `lanes` lanes, and the history of a resumed run. `best_score`
    /// is the score to beat, `data` has digests of the training and the validation split.
    pub(super) fn begin(
        folder: RunFolder<'a>,
        info: CheckpointInfo,
        best_score: Option<f64>,
        data: [u32; 2],
        lanes: usize,
        history: &[EpochRecord],
    ) -> Result<Self, TrainError> {
        let RunFolder { config, writes, lock } = folder;
        let (files, last) = (Vec::new(), Instant::now());
        let mut writer = Self { config, writes, info, best_score, files, last, lanes, data, lock };
        // Same values as in a run that was never stopped.
        if let Some(record) = history.last() {
            writer.info.epoch = record.epoch;
            writer.info.score = Some(record.score);
        }
        if writer.writes {
            writer.write_config()?;
            if !history.is_empty() {
                writer.write_history(history)?;
            }
        }
        Ok(writer)
    }

    fn write_config(&self) -> Result<(), TrainError> {
        let mut whole = self.config.without_start();
        if self.lanes > 1 {
            // Fixed, so that the run can be reproduced on any number of devices.
            whole.compute.lanes = Auto::Number(self.lanes);
        }
        let path = self.config.run.save_dir.join(checkpoint::CONFIG);
        Ok(checkpoint::write_text(&path, toml::to_string(&whole))?)
    }

    /// Recreates the folder if it has been removed: losing the earlier files should not end the run.
    fn restore(&mut self) -> Result<(), TrainError> {
        if self.lock.as_ref().is_none_or(|lock| !lock.is_gone()) {
            return Ok(());
        }
        let folder = &self.config.run.save_dir;
        log::warn!("{}: was removed during the run and has been recreated", folder.display());
        checkpoint::prepare_folder(folder)?;
        self.lock = Some(FolderLock::take(folder)?);
        // The weights with the best score are gone.
        self.best_score = None;
        self.write_config()
    }

    /// Returns whether this score is the best so far.
    pub(super) fn is_best(&self, score: f64) -> bool {
        self.best_score.is_none_or(|best| improves(score, best))
    }

    /// Returns whether a checkpoint within the epoch is due.
    pub(super) fn is_due(&self) -> bool {
        let minutes = self.config.run.checkpoint_minutes;
        minutes > 0.0 && self.last.elapsed().as_secs_f64() >= minutes * 60.0
    }

    /// Writes the last checkpoint within an epoch. Returns the weight files written.
    pub(super) fn save(&mut self, snapshot: Snapshot) -> Result<Vec<PathBuf>, TrainError> {
        // The calibration was computed for the weights at the end of the last epoch, not for these.
        self.info.calibration = None;
        self.write(snapshot, &[checkpoint::LAST.to_owned()])
    }

    /// Writes the checkpoints and the history of a finished epoch, and its predictions for the
    /// validation split if it is the best. Returns the weight files written. After an error the
    /// epoch counts as unfinished.
    pub(super) fn save_epoch(
        &mut self,
        snapshot: Snapshot,
        schema: &Schema,
        predictions: &[ActionPrediction],
    ) -> Result<Vec<PathBuf>, TrainError> {
        let before = (self.best_score, self.info.clone());
        let saved = self.write_epoch(snapshot, schema, predictions);
        if saved.is_err() {
            (self.best_score, self.info) = before;
        }
        saved
    }

    fn write_epoch(
        &mut self,
        snapshot: Snapshot,
        schema: &Schema,
        predictions: &[ActionPrediction],
    ) -> Result<Vec<PathBuf>, TrainError> {
        let history = snapshot.history;
        let record = history.last().expect("an epoch is finished");
        if record.best {
            self.best_score = Some(record.score);
        }
        self.info.epoch = record.epoch;
        self.info.score = Some(record.score);
        self.info.calibration.clone_from(&record.calibration);
        let mut names = Vec::new();
        if record.best {
            names.push(checkpoint::BEST.to_owned());
        }
        if self.config.run.keep > 0 {
            names.push(format!("epoch-{:04}.safetensors", record.epoch));
        }
        // The last checkpoint must be written last: a run killed before that repeats the epoch when
        // it is resumed and rewrites the other files, including the predictions, with the same
        // content.
        names.push(checkpoint::LAST.to_owned());
        if record.best && self.writes {
            self.restore()?;
            let path = self.config.run.save_dir.join(checkpoint::VALID_PREDICTIONS);
            checkpoint::write_text(&path, predictions_csv(schema, predictions))?;
        }
        let written = self.write(snapshot, &names)?;
        if !self.writes {
            return Ok(written);
        }
        if self.config.run.keep > 0 {
            drop_older(&self.config.run.save_dir, record.epoch, self.config.run.keep);
        }
        self.write_history(history)?;
        Ok(written)
    }

    fn write_history(&self, history: &[EpochRecord]) -> Result<(), TrainError> {
        let path = self.config.run.save_dir.join(checkpoint::HISTORY);
        Ok(checkpoint::write_text(&path, history_json(history))?)
    }

    fn write(&mut self, snapshot: Snapshot, names: &[String]) -> Result<Vec<PathBuf>, TrainError> {
        if !self.writes {
            return Ok(Vec::new());
        }
        self.restore()?;
        let folder = &self.config.run.save_dir;
        // Reading weights back from the device is expensive, so do it once for all files.
        let (best_score, data) = (self.best_score, Some(self.data));
        let [weights, state] =
            snapshot.encode(folder, self.config, &self.info, best_score, data)?;
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        for path in &paths {
            save_pair(path, &weights, &state)?;
            if !self.files.contains(path) {
                self.files.push(path.clone());
            }
        }
        self.last = Instant::now();
        Ok(paths)
    }
}

/// Returns the history as JSON with one line per epoch. Pretty-printed, with a line for each number of
/// the confusion matrices, it would take hundreds of megabytes with many classes.
fn history_json(history: &[EpochRecord]) -> serde_json::Result<String> {
    let lines: Vec<String> = history.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// Returns an error if the save-dir holds an earlier run that must not be replaced, or moves the earlier
/// run's files aside.
fn keep_earlier_run(config: &Config) -> Result<(), TrainError> {
    let folder = &config.run.save_dir;
    let resume = config.run.resume.as_deref();
    // A run with only its best weights left cannot be resumed, but must not be lost either.
    let nothing_to_resume = resume.is_some_and(|resume| resume.as_os_str() == AUTO)
        && !folder.join(checkpoint::LAST).exists();
    let resumes = resumes_in(folder, resume) && !nothing_to_resume;
    if resumes || !checkpoint::holds_run(folder) {
        return Ok(());
    }
    if !config.run.overwrite && !nothing_to_resume {
        return Err(CheckpointError::Occupied { path: folder.clone() }.into());
    }
    if let Some(path) = &config.network.pretrained
        && checkpoint::would_move(folder, path)
    {
        return Err(CheckpointError::Moved { path: path.clone() }.into());
    }
    let aside = checkpoint::move_aside(folder)?;
    log::info!("the files of the earlier run are now in {}", aside.display());
    Ok(())
}

/// Returns whether the checkpoint to resume from is in the folder itself.
fn resumes_in(folder: &Path, resume: Option<&Path>) -> bool {
    let Some(resume) = resume else {
        return false;
    };
    resume.as_os_str() == AUTO || checkpoint::is_directly_in(resume, folder)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_written_configuration_has_no_options_of_one_start() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut config = Config::default();
        config.run.save_dir = folder.path().join("run");
        config.run.seed = 7;
        let expected = config.clone();
        config.run.resume = Some(AUTO.into());
        config.run.resume_best_acc = Some(0.5);
        config.run.overwrite = true;
        config.run.record = Some(folder.path().join("steps"));
        let schema = Schema::mvfoul().unwrap();
        let info = CheckpointInfo::new(&schema, config.model(&schema));
        let run = RunFolder::open(&config, true).unwrap();
        CheckpointWriter::begin(run, info, None, [0; 2], 1, &[]).unwrap();
        let text = std::fs::read_to_string(config.run.save_dir.join(checkpoint::CONFIG)).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), expected);
    }
}
