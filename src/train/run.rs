//! The whole job: open everything, train and validate epoch by epoch, keep what was learned.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;

use super::summary::{Opened, summary};
use super::{
    Augmenter, Course, EarlyStopping, EpochCourse, Interrupted, Objective, Optimizer, Rule,
    StepSettings, TrainError, multi_scale_sizes, stage_gradients, train_one_epoch,
    validate_one_epoch,
};
use crate::augment::rarity;
use crate::checkpoint::{self, CheckpointInfo};
use crate::config::Config;
use crate::data::Dataset;
use crate::data::loader::{self, Loader};
use crate::data::sampler::Sampler;
use crate::device::{self, Compute};
use crate::model::pretrained::load_pretrained;
use crate::model::{ModelConfig, MultiViewNet, STAGES, parameter_count};
use crate::report::{EpochRecord, Event, Observer, PassRecord, Phase};
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
    let (mut run, net) = Run::open(config, stop, observer)?;
    let course = Course::new(config, |epoch| run.steps(epoch));
    let (net, interrupted) = run.epochs(net, &course, observer)?;
    let best = config.save_dir.join(checkpoint::BEST);
    let network = if !config.test_run && run.history.iter().any(|record| record.best) {
        checkpoint::load(&best, &run.plain)?.0
    } else {
        net
    };
    Ok(Outcome {
        history: run.history,
        interrupted,
        save_dir: config.save_dir.clone(),
        files: run.files,
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
    augmenter: Augmenter,
    /// What the next checkpoint says of itself.
    info: CheckpointInfo,
    history: Vec<EpochRecord>,
    best_score: f64,
    files: Vec<PathBuf>,
}

impl<'a> Run<'a> {
    /// Opens everything, cheap refusals first: a mistake must show before anything is decoded or
    /// compiled.
    fn open(
        config: &'a Config,
        stop: &'a AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<(Self, MultiViewNet), TrainError> {
        config.validate()?;
        let schema = config.load_schema()?;
        config.validate_with(&schema)?;
        let train = Arc::new(open_split(config, &schema, "train")?);
        let valid = Arc::new(open_split(config, &schema, "valid")?);
        if !config.test_run {
            checkpoint::prepare_folder(&config.save_dir)?;
        }
        if config.mixed_precision {
            log::warn!("--mixed-precision: this version computes in f32 on every device");
        }
        let compute = device::open(&config.device)?;
        if let Some(note) = &compute.note {
            log::warn!("{note}");
        }
        check_fit(config, &compute, train.max_views().max(valid.max_views()))?;

        let plain = compute.device.clone();
        let tracking = plain.clone().autodiff();
        let model = config.model(&schema);
        let mut net = model.init(config.seed, &tracking);
        start_from_pretrained(config, &model, &mut net)?;
        if !config.test_run {
            let text = toml::to_string(config);
            checkpoint::write_text(&config.save_dir.join(checkpoint::CONFIG), text)?;
        }
        let sampler = sampler(config, &schema, &train);
        let opened = Opened {
            schema: &schema,
            model: &model,
            compute: &compute,
            parameters: parameter_count(&net),
            train: &train,
            valid: &valid,
        };
        observer.observe(&Event::Started(summary(config, &opened)));
        let run = Self {
            config,
            stop,
            objective: Objective::new(config, &schema, &train),
            sampler,
            augmenter: augmenter(config, &schema, &train),
            train,
            valid,
            tracking,
            plain,
            optimizer: Optimizer::new(Rule::new(config), config.gradient_clip_norm),
            info: CheckpointInfo::new(&schema, model.clone()),
            history: Vec::new(),
            best_score: f64::NEG_INFINITY,
            files: Vec::new(),
        };
        Ok((run, net))
    }

    /// Runs all epochs; the network after them, and whether the user stopped them.
    fn epochs(
        &mut self,
        mut net: MultiViewNet,
        course: &Course,
        observer: &mut dyn Observer,
    ) -> Result<(MultiViewNet, bool), TrainError> {
        let stopping = EarlyStopping { patience: self.config.patience() };
        for epoch in 0..course.epochs() {
            let past: Vec<_> = self.history.iter().map(EpochRecord::outcome).collect();
            let plan = course.epoch(epoch, &past);
            net = net.with_trainable(plan.trainable);
            let (trained, train) = self.train_pass(net, epoch, course, &plan, observer)?;
            net = trained;
            let valid = match train {
                Some(_) => self.valid_pass(&net, epoch, course, observer)?,
                None => None,
            };
            let (Some(train), Some(valid)) = (train, valid) else {
                // The epoch is not over: the weights are kept, its figures are not.
                observer.observe(&Event::Interrupted);
                self.save(&net, &[checkpoint::LAST], observer)?;
                return Ok((net, true));
            };
            let record = self.judge(&net, epoch, &plan, train, valid)?;
            self.keep(&net, record, observer)?;
            let scores: Vec<f64> = self.history.iter().map(|record| record.score).collect();
            if stopping.should_stop(&scores) && epoch + 1 < course.epochs() {
                observer.observe(&Event::StoppedEarly(stopping.patience));
                break;
            }
        }
        Ok((net, false))
    }

    /// Number of training batches of an epoch, counted from 0.
    fn steps(&self, epoch: usize) -> usize {
        let batches = self.sampler.batches(epoch);
        if self.config.test_run { batches.min(self.config.test_batches) } else { batches }
    }

    /// The training batches of an epoch, counted from 0.
    fn training_plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut plan = self.sampler.plan(epoch);
        if self.config.test_run {
            plan.truncate(self.config.test_batches);
        }
        plan
    }

    /// One training pass; no figures when it was interrupted.
    fn train_pass(
        &mut self,
        net: MultiViewNet,
        epoch: usize,
        course: &Course,
        plan: &EpochCourse,
        observer: &mut dyn Observer,
    ) -> Result<(MultiViewNet, Option<PassRecord>), TrainError> {
        let config = self.config;
        let settings = StepSettings {
            objective: &self.objective,
            rates: &|step| plan.at(step),
            seed: config.seed,
            epoch: epoch + 1,
            first_step: course.steps_before(epoch),
            augmenter: Some(&self.augmenter),
        };
        let batches = self.training_plan(epoch);
        let loader = Loader::new(Arc::clone(&self.train), batches, config.num_workers);
        announce(epoch, course, Phase::Train, &loader, observer);
        let (net, record, interrupted) = train_one_epoch(
            net,
            &mut self.optimizer,
            loader,
            &settings,
            &self.tracking,
            self.stop,
            observer,
        )?;
        Ok((net, (interrupted == Interrupted::No).then_some(record)))
    }

    /// One validation pass; no figures when it was interrupted.
    fn valid_pass(
        &self,
        net: &MultiViewNet,
        epoch: usize,
        course: &Course,
        observer: &mut dyn Observer,
    ) -> Result<Option<PassRecord>, TrainError> {
        let config = self.config;
        let mut plan = loader::in_order(self.valid.samples.len(), config.batch_size);
        if config.test_run {
            plan.truncate(config.test_batches);
        }
        let loader = Loader::new(Arc::clone(&self.valid), plan, config.num_workers);
        announce(epoch, course, Phase::Validate, &loader, observer);
        let (record, interrupted) =
            validate_one_epoch(net, loader, &self.objective, &self.plain, self.stop, observer)?;
        Ok((interrupted == Interrupted::No).then_some(record))
    }

    /// The record of a finished epoch.
    fn judge(
        &mut self,
        net: &MultiViewNet,
        epoch: usize,
        plan: &EpochCourse,
        train: PassRecord,
        valid: PassRecord,
    ) -> Result<EpochRecord, TrainError> {
        let score = valid.score();
        let best = score > self.best_score;
        if best {
            self.best_score = score;
        }
        let batches = self.training_plan(epoch);
        let (rates, _) = plan.at(batches.len().saturating_sub(1));
        let mut groups = indexmap::IndexMap::from([("heads".to_owned(), rates.heads)]);
        for (stage, name) in STAGES.iter().enumerate().rev() {
            if plan.trainable.contains(stage) {
                groups.insert((*name).to_owned(), rates.stages[stage]);
            }
        }
        let mut gradients = None;
        if plan.phase.freezing.wants_gradients()
            && let Some(first) = batches.first()
            && let Some(batch) = self.train.read_batch(first, &mut self.train.resizer())?
        {
            gradients = Some(stage_gradients(net, &batch, &self.objective, &self.tracking)?);
        }
        Ok(EpochRecord {
            epoch: epoch + 1,
            phase: plan.phase.number,
            trainable: plan.trainable.names().into_iter().map(str::to_owned).collect(),
            rates: groups,
            gradients,
            train,
            valid,
            score,
            best,
        })
    }

    /// Writes what a finished epoch leaves behind.
    fn keep(
        &mut self,
        net: &MultiViewNet,
        record: EpochRecord,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.info.epoch = record.epoch;
        self.info.score = Some(record.score);
        let mut files = vec![checkpoint::LAST];
        if record.best {
            files.push(checkpoint::BEST);
        }
        self.save(net, &files, observer)?;
        self.history.push(record.clone());
        if !self.config.test_run {
            let text = serde_json::to_string_pretty(&self.history);
            checkpoint::write_text(&self.config.save_dir.join(checkpoint::HISTORY), text)?;
        }
        observer.observe(&Event::Epoch(record));
        Ok(())
    }

    fn save(
        &mut self,
        net: &MultiViewNet,
        files: &[&str],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if self.config.test_run {
            return Ok(());
        }
        // Reading the weights back from the device is the dear part: once for all files.
        let bytes = checkpoint::encode(&self.config.save_dir, net, &self.info)?;
        for file in files {
            let path = self.config.save_dir.join(file);
            checkpoint::write_atomically(&path, &bytes)?;
            if !self.files.contains(&path) {
                self.files.push(path.clone());
            }
            observer.observe(&Event::Saved(path));
        }
        Ok(())
    }
}

fn announce(
    epoch: usize,
    course: &Course,
    phase: Phase,
    loader: &Loader,
    observer: &mut dyn Observer,
) {
    observer.observe(&Event::PassStarted {
        epoch: epoch + 1,
        epochs: course.epochs(),
        phase,
        batches: loader.batches(),
    });
}

/// Which actions each epoch visits.
fn sampler(config: &Config, schema: &Schema, train: &Dataset) -> Sampler {
    let classes = |task: usize| (task, schema.tasks[task].classes.len());
    let tasks: Vec<_> = config.balanced_tasks(schema).into_iter().map(classes).collect();
    Sampler::new(train, config.sampling(), &tasks, config.batch_size, config.seed)
}

fn open_split(config: &Config, schema: &Schema, split: &str) -> Result<Dataset, TrainError> {
    Ok(Dataset::open(
        &config.dataset_root,
        split,
        schema,
        config.window(),
        [config.img_height, config.img_width],
        config.max_views,
    )?)
}

fn start_from_pretrained(
    config: &Config,
    model: &ModelConfig,
    net: &mut MultiViewNet,
) -> Result<(), TrainError> {
    let Some(path) = &config.pretrained else {
        return Ok(());
    };
    let report = load_pretrained(net, model, path)?;
    log::info!("{}: {} tensors loaded", path.display(), report.loaded);
    for (what, names) in [("missing", &report.missing), ("unexpected", &report.unexpected)] {
        if !names.is_empty() {
            log::warn!("{}: {what}: {}", path.display(), names.join(", "));
        }
    }
    Ok(())
}

/// What happens to training clips, with the class counts of the training split.
fn augmenter(config: &Config, schema: &Schema, train: &Dataset) -> Augmenter {
    let task = schema.imbalanced_task().unwrap_or(0);
    let counts = train.class_counts(task, schema.tasks[task].classes.len());
    let largest = counts.iter().copied().max().unwrap_or(0);
    let size = [config.img_height, config.img_width];
    Augmenter {
        config: config.augmentation(),
        seed: config.seed,
        task,
        rarity: counts.iter().map(|&count| rarity(count, largest)).collect(),
        sizes: if config.multi_scale { multi_scale_sizes(size) } else { vec![size] },
        on_device: config.gpu_augmentation,
    }
}

/// Refuses a batch whose widest activation no buffer of the device can hold.
fn check_fit(config: &Config, compute: &Compute, max_views: usize) -> Result<(), TrainError> {
    let Some(limit) = compute.info.max_binding_bytes else {
        return Ok(());
    };
    let size = [config.frames_per_clip, config.img_height, config.img_width];
    let clips = config.batch_size * max_views;
    let need = config.backbone_name.widest_activation(size) as u64 * clips as u64 * 4;
    if need <= limit {
        return Ok(());
    }
    if config.force_batch_size {
        log::warn!(
            "{clips} clips need a buffer of {} MB, the device allows {}: tried all the same \
             (--force-batch-size)",
            need >> 20,
            limit >> 20
        );
        return Ok(());
    }
    Err(TrainError::TooLarge {
        batch_size: config.batch_size,
        clips,
        size: size.map(|side| side.to_string()).join("×"),
        need: need >> 20,
        limit: limit >> 20,
        device: compute.info.name.clone(),
    })
}
