//! What a run leaves on disk, and when.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::memory::Room;
use super::pair::{drop_older, save_pair};
use super::state::MemoryState;
use super::{Optimizer, PassProgress, RunState, TrainError};
use crate::checkpoint::{self, CheckpointInfo, FolderLock};
use crate::config::Config;
use crate::model::MultiViewNet;
use crate::report::{EpochRecord, Event, Observer};

/// A run between two steps, as far as it is saved.
pub(super) struct Moment<'a> {
    pub net: &'a MultiViewNet,
    pub optimizer: &'a Optimizer,
    pub memory: MemoryState,
    pub history: &'a [EpochRecord],
}

impl<'a> Moment<'a> {
    pub fn new(
        net: &'a MultiViewNet,
        optimizer: &'a Optimizer,
        room: &Room,
        history: &'a [EpochRecord],
    ) -> Self {
        Self { net, optimizer, memory: room.state, history }
    }
}

/// Writes a run's files; nothing in a test run.
pub(super) struct Keeper<'a> {
    config: &'a Config,
    /// What the next checkpoint says of itself.
    pub info: CheckpointInfo,
    /// Highest score so far.
    pub best_score: Option<f64>,
    /// The weight files written.
    pub files: Vec<PathBuf>,
    last: Instant,
    /// Held, not read: it keeps other runs out.
    _lock: Option<FolderLock>,
}

impl<'a> Keeper<'a> {
    /// Makes the folder, proves that it can be written, and keeps other runs out of it.
    pub fn open(config: &'a Config, info: CheckpointInfo) -> Result<Self, TrainError> {
        let lock = if config.run.test_run {
            None
        } else {
            checkpoint::prepare_folder(&config.run.save_dir)?;
            Some(FolderLock::take(&config.run.save_dir)?)
        };
        let (best_score, files) = (None, Vec::new());
        Ok(Self { config, info, best_score, files, last: Instant::now(), _lock: lock })
    }

    /// Writes the configuration, and the history of a run that goes on.
    pub fn begin(&mut self, history: &[EpochRecord]) -> Result<(), TrainError> {
        self.last = Instant::now();
        if self.config.run.test_run {
            return Ok(());
        }
        // Not what this start alone was about: the file must repeat the run from its beginning.
        let mut whole = self.config.clone();
        (whole.run.resume, whole.run.resume_best_acc) = (None, None);
        let path = self.config.run.save_dir.join(checkpoint::CONFIG);
        checkpoint::write_text(&path, toml::to_string(&whole))?;
        if !history.is_empty() {
            self.write_history(history)?;
        }
        Ok(())
    }

    /// Whether this score is the best so far; it is remembered.
    pub fn is_best(&mut self, score: f64) -> bool {
        let best = self.best_score.is_none_or(|best| score > best);
        if best {
            self.best_score = Some(score);
        }
        best
    }

    /// Whether so much time has passed since the last checkpoint that another one is due.
    pub fn is_due(&self) -> bool {
        let minutes = self.config.run.checkpoint_minutes;
        minutes > 0.0 && self.last.elapsed() >= Duration::from_secs_f64(minutes * 60.0)
    }

    /// Writes the last checkpoint, within an epoch.
    pub fn save(
        &mut self,
        now: &Moment,
        progress: Option<PassProgress>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.write(now, progress, &[checkpoint::LAST.to_owned()], observer)
    }

    /// Writes what a finished epoch leaves behind.
    pub fn save_epoch(
        &mut self,
        now: &Moment,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(record) = now.history.last() else {
            return Ok(());
        };
        self.info.epoch = record.epoch;
        self.info.score = Some(record.score);
        let mut names = Vec::new();
        if record.best {
            names.push(checkpoint::BEST.to_owned());
        }
        if self.config.run.keep > 0 {
            names.push(format!("epoch-{:04}.safetensors", record.epoch));
        }
        // The last one last: a run that dies before it repeats the epoch, and writes the others
        // again as they are.
        names.push(checkpoint::LAST.to_owned());
        self.write(now, None, &names, observer)?;
        if self.config.run.test_run {
            return Ok(());
        }
        if self.config.run.keep > 0 {
            drop_older(&self.config.run.save_dir, self.config.run.keep);
        }
        self.write_history(now.history)
    }

    fn write_history(&self, history: &[EpochRecord]) -> Result<(), TrainError> {
        let path = self.config.run.save_dir.join(checkpoint::HISTORY);
        Ok(checkpoint::write_text(&path, serde_json::to_string_pretty(history))?)
    }

    fn write(
        &mut self,
        now: &Moment,
        progress: Option<PassProgress>,
        names: &[String],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if self.config.run.test_run {
            return Ok(());
        }
        let folder = &self.config.run.save_dir;
        // Reading weights back from the device is the dear part: once for all files.
        let (weights, checksum) = checkpoint::encode(folder, now.net, &self.info)?;
        let mut state = RunState::new(self.config, now.history, progress, checksum);
        state.best_score = self.best_score;
        state.memory = now.memory;
        let state = state.encode(folder, now.optimizer)?;
        for name in names {
            let path = folder.join(name);
            save_pair(&path, &weights, &state)?;
            if !self.files.contains(&path) {
                self.files.push(path.clone());
            }
            observer.observe(&Event::Saved { path });
        }
        self.last = Instant::now();
        Ok(())
    }
}
