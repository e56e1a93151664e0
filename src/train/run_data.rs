//! A run's data: the splits with their frame cache, the order of the training split and its
//! augmentation.

use std::sync::Arc;

use super::augmenter::{Augmenter, Rarity, multi_scale_sizes};
use super::error::TrainError;
use super::lanes::LaneShare;
use crate::config::{Config, ConfigError};
use crate::data::cache::FrameCache;
use crate::data::loader::{self, Loader};
use crate::data::sampler::Sampler;
use crate::data::{Batch, DataSource, Dataset, Plan, Reading, Window};
use crate::schema::Schema;

/// The training and validation data of a run.
pub(super) struct RunData<'a> {
    config: &'a Config,
    pub train: Arc<Dataset>,
    pub valid: Arc<Dataset>,
    sampler: Sampler,
    window: Window,
    pub cache: Option<Arc<FrameCache>>,
}

impl<'a> RunData<'a> {
    /// Reads the annotations of both splits; decodes no clips.
    pub(super) fn open(config: &'a Config, source: &DataSource) -> Result<Self, TrainError> {
        let schema = source.schema();
        let window = config.clips.window(schema).map_err(ConfigError::from)?;
        let open = |split: &str| {
            let (size, views) = (config.clips.frame_size(), config.clips.max_views);
            Dataset::of_source(source, split, window, size, views)?.labelled()
        };
        let (train, valid) = (open("train")?, open("valid")?);
        train.refuse_window_beyond()?;
        let classes = |task: usize| (task, schema.tasks[task].classes.len());
        let tasks: Vec<_> =
            config.balance.balanced_tasks(schema).into_iter().map(classes).collect();
        let (sampling, batch_size) = (config.balance.sampling(), config.optimizer.batch_size);
        let sampler = Sampler::new(&train, sampling, &tasks, batch_size, config.run.seed);
        Ok(Self {
            config,
            train: train.into(),
            valid: valid.into(),
            sampler,
            window: window.window,
            cache: None,
        })
    }

    /// Opens the frame cache. If that fails, the run continues without it. Training clips whose window
    /// is redrawn in each epoch are not cached, as the same frames would rarely be needed again.
    pub(super) fn open_cache(&mut self) {
        let Some(folder) = self.config.cache_folder() else {
            return;
        };
        match FrameCache::open(&folder, (self.config.data.cache_size * 1e9) as u64) {
            Ok(cache) => {
                let cache = Arc::new(cache);
                let train = (!self.window.varies()).then_some(&mut self.train);
                for split in train.into_iter().chain([&mut self.valid]) {
                    let split = Arc::get_mut(split).expect("no loader has been started yet");
                    split.use_cache(Arc::clone(&cache));
                }
                self.cache = Some(cache);
            }
            Err(error) => {
                log::warn!("{error}: continuing without a cache, every epoch decodes every clip");
            }
        }
    }

    /// Returns the number of training steps of an epoch, counted from 0.
    pub(super) fn steps(&self, epoch: usize) -> usize {
        self.shortened(self.sampler.batches(epoch))
    }

    /// Returns the training batches of an epoch, counted from 0, as indices of actions.
    pub(super) fn train_batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut batches = self.sampler.plan(epoch);
        batches.truncate(self.shortened(batches.len()));
        batches
    }

    /// Limits a number of batches in a test run.
    fn shortened(&self, batches: usize) -> usize {
        let run = &self.config.run;
        if run.test_run { batches.min(run.test_batches) } else { batches }
    }

    /// Creates a loader of the training batches of an epoch, counted from 0, skipping the first `done`. It
    /// reads a share of each batch.
    pub(super) fn train_loader(&self, epoch: usize, done: usize, share: LaneShare) -> Loader {
        let batches = self.train_batches(epoch);
        self.load(&self.train, batches, self.train_reading(epoch), done, share)
    }

    /// Creates a loader of the validation split, which reads a share of each batch.
    pub(super) fn valid_loader(&self, share: LaneShare) -> Loader {
        let actions = self.valid.samples.len();
        let mut batches = loader::in_order(actions, self.config.optimizer.batch_size);
        batches.truncate(self.shortened(batches.len()));
        self.load(&self.valid, batches, Reading::MIDDLE, 0, share)
    }

    /// Returns how an epoch, counted from 0, reads training clips: its windows and crops.
    fn train_reading(&self, epoch: usize) -> Reading {
        Reading::drawn(self.config.run.seed, epoch + 1)
    }

    /// Creates a loader of a share of each of `batches`, skipping the first `done`.
    fn load(
        &self,
        split: &Arc<Dataset>,
        batches: Vec<Vec<usize>>,
        reading: Reading,
        done: usize,
        share: LaneShare,
    ) -> Loader {
        let clips = |action: usize| split.samples[action].views.len();
        let plan = Plan::in_lanes(batches, share.count, clips).reading(reading).skip(done);
        let plan = plan.share(share.own);
        Loader::with_prefetch(Arc::clone(split), plan, self.config.data.ahead())
    }

    /// Reads some actions of the training split as they are read in an epoch, counted from 0; `None` if
    /// none of them is readable.
    pub(super) fn train_batch(
        &self,
        epoch: usize,
        actions: &[usize],
    ) -> Result<Option<Batch>, TrainError> {
        let reading = self.train_reading(epoch);
        Ok(self.train.read_batch(actions, &reading, &mut self.train.resizer())?)
    }

    /// Returns the augmenter of training clips; rarity is derived from the training split's class
    /// counts.
    pub(super) fn augmenter(&self, schema: &Schema) -> Augmenter {
        Augmenter {
            config: self.config.augment.clone(),
            seed: self.config.run.seed,
            rarity: Rarity::of(schema, &self.train),
            sizes: frame_sizes(self.config),
        }
    }
}

/// Returns the frame sizes `[H, W]` that batches may have.
pub(super) fn frame_sizes(config: &Config) -> Vec<[usize; 2]> {
    let size = config.clips.frame_size();
    if config.clips.multi_scale { multi_scale_sizes(size) } else { vec![size] }
}
