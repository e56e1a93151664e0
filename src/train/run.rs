//! The whole job: open everything, train and validate epoch by epoch, keep what was learned.

mod passes;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;

use super::examples::Sightings;
use super::keeper::{Keeper, Moment};
use super::memory::{Needs, Room};
use super::pair::Saved;
use super::reporting::Reporter;
use super::summary::{Opened, summary};
use super::{
    Augmenter, Course, EarlyStopping, Interrupted, Objective, Optimizer, PassProgress, Rule,
    TrainError, against_waiting, opening, resume,
};
use crate::checkpoint::{self, CheckpointInfo};
use crate::config::Config;
use crate::data::Dataset;
use crate::data::cache::FrameCache;
use crate::data::sampler::Sampler;
use crate::device;
use crate::model::{MultiViewNet, StageSet, parameter_count};
use crate::report::html::RunStatus;
use crate::report::{EpochRecord, Event, Observer};
use crate::schema::Schema;

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Every finished epoch.
    pub history: Vec<EpochRecord>,
    /// Whether the user stopped it.
    pub interrupted: bool,
    /// Where its files are.
    pub save_dir: PathBuf,
    /// The weight files that it wrote.
    pub files: Vec<PathBuf>,
    /// The network with the weights of the best epoch (after a test run: of its only one).
    pub network: Option<MultiViewNet>,
}

impl Outcome {
    /// The epoch with the highest validation score; the earliest on a tie.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.history.iter().rfind(|record| record.best)
    }
}

/// Trains as `config` says and writes checkpoints, history and configuration to its save-dir.
/// Raising `stop` ends the run after the step in progress, with the last checkpoint written.
pub fn run(
    config: &Config,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let (mut run, net, from) = Run::open(config, stop, observer)?;
    let course = Course::new(config, |epoch| run.steps(epoch));
    let (net, end) = run.epochs(net, from, &course, observer)?;
    if let Some(cache) = &run.cache {
        log::info!("frame cache: {}", cache.stats());
    }
    run.reporter.page(&run.history, end);
    let best = config.run.save_dir.join(checkpoint::BEST);
    let network =
        if run.keeper.files.contains(&best) { checkpoint::load(&best, &run.plain)?.0 } else { net };
    Ok(Outcome {
        history: run.history,
        interrupted: end == RunStatus::Interrupted,
        save_dir: config.run.save_dir.clone(),
        files: run.keeper.files,
        network: Some(network),
    })
}

/// A run in progress.
struct Run<'a> {
    config: &'a Config,
    stop: &'a AtomicBool,
    train: Arc<Dataset>,
    valid: Arc<Dataset>,
    /// With automatic differentiation, for training.
    tracking: Device,
    /// Without, for validation.
    plain: Device,
    objective: Objective,
    sampler: Sampler,
    optimizer: Optimizer,
    room: Room,
    augmenter: Augmenter,
    keeper: Keeper<'a>,
    reporter: Reporter<'a>,
    schema: Schema,
    history: Vec<EpochRecord>,
    cache: Option<Arc<FrameCache>>,
    /// Clips that the cache had taken in when the last epoch ended.
    frames_written: u64,
    told_waiting: bool,
}

impl<'a> Run<'a> {
    /// Opens everything, cheap refusals first: a mistake must show before anything is decoded or
    /// compiled. Gives the network, and where a resumed run stands within its next epoch.
    fn open(
        config: &'a Config,
        stop: &'a AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<(Self, MultiViewNet, Option<PassProgress>), TrainError> {
        config.validate()?;
        let schema = config.load_schema()?;
        config.validate_with(&schema)?;
        let train = opening::open_split(config, &schema, "train")?;
        let valid = opening::open_split(config, &schema, "valid")?;
        let model = config.model(&schema);
        let input = Some(config.input());
        let info = CheckpointInfo { input, ..CheckpointInfo::new(&schema, model.clone()) };
        let mut keeper = Keeper::open(config, info)?;
        if config.compute.mixed_precision {
            log::warn!("--mixed-precision: this version computes in f32 on every device");
        }
        let compute = device::open(&config.compute.device)?;
        if let Some(note) = &compute.note {
            log::warn!("{note}");
        }
        let plain = compute.device.clone();
        let tracking = plain.clone().autodiff();
        let objective = Objective::new(config, &schema, &train);
        let mut optimizer = Optimizer::new(Rule::new(config), config.optimizer.gradient_clip_norm);
        let mut room = Room::new(config, &compute.info);
        let resumed = resume::open(config, &keeper.info, &objective, &tracking)?;
        let (net, history, progress) = match resumed {
            Some(Saved { net, state, moments, .. }) => {
                optimizer.moments = moments;
                room.resume(state.memory);
                keeper.best_score = config.run.resume_best_acc.or(state.best_score);
                (net, state.history, state.progress)
            }
            None => {
                let mut net = model.init(config.run.seed, &tracking);
                opening::start_from_pretrained(config, &model, &mut net)?;
                (net, Vec::new(), None)
            }
        };
        let needs = needs(config, &net, opening::most_trainable(config))?;
        room.check(&needs, config.clips.size())?;
        let clips = config.optimizer.batch_size * train.max_views();
        keeper.begin(&history)?;
        let cache = opening::cache(config);
        let [train, valid] = [train, valid].map(|split| {
            Arc::new(match &cache {
                Some(cache) => split.with_cache(Arc::clone(cache)),
                None => split,
            })
        });
        let opened = Opened {
            schema: &schema,
            model: &model,
            compute: &compute,
            parameters: parameter_count(&net),
            memory: room.words(&needs, clips),
            train: &train,
            valid: &valid,
        };
        let summary = summary(config, &opened);
        observer.observe(&Event::Started(summary.clone()));
        let at_once = room.step(&needs).micro_batch.min(clips);
        opening::tune(config, &compute, &net, at_once, stop, observer)?;
        let device = format!("{} ({})", compute.info.name, compute.info.id);
        let epochs = config.total_epochs();
        let reporter =
            Reporter::open(config, schema.clone(), summary, device, epochs, history.len());
        let mut run = Self {
            config,
            stop,
            objective,
            sampler: opening::sampler(config, &schema, &train),
            augmenter: opening::augmenter(config, &schema, &train),
            train,
            valid,
            tracking,
            plain,
            optimizer,
            room,
            keeper,
            reporter,
            schema,
            history,
            cache,
            frames_written: 0,
            told_waiting: false,
        };
        run.show_augmentation()?;
        Ok((run, net, progress))
    }

    /// Shows in the report what the augmentation does to the first two actions.
    fn show_augmentation(&mut self) -> Result<(), TrainError> {
        if self.config.run.test_run || !self.history.is_empty() {
            return Ok(());
        }
        let first: Vec<usize> = (0..self.train.samples.len().min(2)).collect();
        if let Some(batch) = self.train.read_batch(&first, &mut self.train.resizer())? {
            self.reporter.augmented(&self.augmenter, &batch, &self.plain);
        }
        Ok(())
    }

    /// Runs the epochs that are left, the first one from where it stands; the network after them,
    /// and how they ended.
    fn epochs(
        &mut self,
        mut net: MultiViewNet,
        mut from: Option<PassProgress>,
        course: &Course,
        observer: &mut dyn Observer,
    ) -> Result<(MultiViewNet, RunStatus), TrainError> {
        let stopping = EarlyStopping { patience: self.config.patience() };
        for epoch in self.history.len()..course.epochs() {
            let scores: Vec<f64> = self.history.iter().map(|record| record.score).collect();
            if stopping.should_stop(&scores) {
                observer.observe(&Event::StoppedEarly { epochs: stopping.patience });
                return Ok((net, RunStatus::StoppedEarly));
            }
            let past: Vec<_> = self.history.iter().map(EpochRecord::outcome).collect();
            let plan = course.epoch(epoch, &past);
            net = net.with_trainable(plan.trainable);
            let begun = from.take().unwrap_or_else(|| PassProgress::new(&self.objective));
            let trained = self.train_pass(net, epoch, begun, course, &plan, observer)?;
            let progress = trained.progress;
            net = trained.net;
            let mut seen = Sightings::default();
            let valid = match trained.interrupted {
                Interrupted::No => self.valid_pass(&net, epoch, course, &mut seen, observer)?,
                Interrupted::Yes => None,
            };
            let Some(valid) = valid else {
                observer.observe(&Event::Interrupted);
                let now = Moment::new(&net, &self.optimizer, &self.room, &self.history);
                self.keeper.save(&now, Some(progress), observer)?;
                return Ok((net, RunStatus::Interrupted));
            };
            let record = self.judge(&net, epoch, &plan, trained.record, valid)?;
            self.advise_on_waiting(&record);
            self.history.push(record.clone());
            let now = Moment::new(&net, &self.optimizer, &self.room, &self.history);
            self.keeper.save_epoch(&now, observer)?;
            self.reporter.epoch(&self.history, &seen, &self.valid);
            observer.observe(&Event::Epoch(Box::new(record)));
        }
        Ok((net, RunStatus::Finished))
    }

    /// Says once which option to turn when training waits for data. An epoch that filled the cache
    /// says nothing about the next one.
    fn advise_on_waiting(&mut self, record: &EpochRecord) {
        let written = self.cache.as_ref().map_or(0, |cache| cache.stats().written);
        let filled = std::mem::replace(&mut self.frames_written, written) < written;
        if self.told_waiting || filled {
            return;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if let Some(advice) = against_waiting(self.config, record.train.data_wait, cores) {
            log::info!("advice: {advice}");
            self.told_waiting = true;
        }
    }

    /// Number of training batches of an epoch, counted from 0.
    fn steps(&self, epoch: usize) -> usize {
        let batches = self.sampler.batches(epoch);
        if self.config.run.test_run { batches.min(self.config.run.test_batches) } else { batches }
    }
}

/// What a step that trains these stages needs of the device.
fn needs(config: &Config, net: &MultiViewNet, trainable: StageSet) -> Result<Needs, TrainError> {
    let (size, again) = (config.clips.size(), config.compute.gradient_checkpointing);
    let parameters = parameter_count(net);
    Needs::training(&net.backbone, parameters, size, trainable, again)
        .ok_or(TrainError::TooSmall { size: size.map(|side| side.to_string()).join("×") })
}
