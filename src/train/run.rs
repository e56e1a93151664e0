//! The whole job: open everything, train and validate epoch by epoch, keep what was learned.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;

use super::summary::summary;
use super::{
    Augmenter, Interrupted, Optimizer, StepSettings, TrainError, cosine, multi_scale_sizes,
    train_one_epoch, validate_one_epoch,
};
use crate::augment::rarity;
use crate::checkpoint::{self, CheckpointInfo};
use crate::config::Config;
use crate::data::Dataset;
use crate::data::loader::{self, Loader};
use crate::device::{self, Compute};
use crate::model::pretrained::load_pretrained;
use crate::model::{ModelConfig, MultiViewNet, parameter_count};
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
}

impl Outcome {
    /// The epoch with the highest validation score; the earliest on a tie.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.history.iter().rfind(|record| record.best)
    }
}

/// The cosine schedule ends at this share of its start.
const ETA_MIN_SHARE: f64 = 0.01;

/// Trains as `config` says and writes checkpoints, history and configuration to its save-dir.
/// Raising `stop` ends the run after the step in progress, with the last checkpoint written.
pub fn run(
    config: &Config,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let (mut run, net) = Run::open(config, stop, observer)?;
    let interrupted = run.epochs(net, observer)?;
    Ok(Outcome { history: run.history, interrupted, save_dir: config.save_dir.clone() })
}

/// A run in progress.
struct Run<'a> {
    config: &'a Config,
    stop: &'a AtomicBool,
    model: ModelConfig,
    train: Arc<Dataset>,
    valid: Arc<Dataset>,
    /// With automatic differentiation, for training.
    tracking: Device,
    /// Without, for validation.
    plain: Device,
    optimizer: Optimizer,
    augmenter: Augmenter,
    /// What the next checkpoint says of itself.
    info: CheckpointInfo,
    history: Vec<EpochRecord>,
    best_score: f64,
    steps_done: usize,
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
        let train = Arc::new(open_split(config, &schema, "train")?);
        let valid = Arc::new(open_split(config, &schema, "valid")?);
        checkpoint::prepare_folder(&config.save_dir)?;
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
        let text = toml::to_string(config);
        checkpoint::write_text(&config.save_dir.join(checkpoint::CONFIG), text)?;
        let parameters = parameter_count(&net);
        let started = summary(config, &schema, &model, &compute, parameters, &train, &valid);
        observer.observe(&Event::Started(started));
        let run = Self {
            config,
            stop,
            augmenter: augmenter(config, &schema, &train),
            train,
            valid,
            tracking,
            plain,
            optimizer: Optimizer::adamw(config.weight_decay, config.gradient_clip_norm),
            info: CheckpointInfo::new(&schema, model.clone()),
            model,
            history: Vec::new(),
            best_score: f64::NEG_INFINITY,
            steps_done: 0,
        };
        Ok((run, net))
    }

    /// Runs all epochs; whether the user stopped them.
    fn epochs(
        &mut self,
        mut net: MultiViewNet,
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        let config = self.config;
        for epoch in 0..config.epochs {
            let lr = cosine(config.lr, config.lr * ETA_MIN_SHARE, config.epochs, epoch);
            let (trained, train) = self.train_pass(net, epoch, lr, observer)?;
            net = trained;
            let valid = match train {
                Some(_) => self.valid_pass(&net, epoch, observer)?,
                None => None,
            };
            let (Some(train), Some(valid)) = (train, valid) else {
                // The epoch is not over: the weights are kept, its figures are not.
                observer.observe(&Event::Interrupted);
                self.save(&net, &[checkpoint::LAST], observer)?;
                return Ok(true);
            };
            self.keep(&net, epoch, lr, train, valid, observer)?;
        }
        Ok(false)
    }

    /// One training pass; no figures when it was interrupted.
    fn train_pass(
        &mut self,
        net: MultiViewNet,
        epoch: usize,
        lr: f64,
        observer: &mut dyn Observer,
    ) -> Result<(MultiViewNet, Option<PassRecord>), TrainError> {
        let config = self.config;
        let settings = StepSettings {
            lr,
            label_smoothing: config.label_smoothing,
            seed: config.seed,
            epoch: epoch + 1,
            first_step: self.steps_done,
            augmenter: Some(self.augmenter.clone()),
        };
        let plan =
            loader::shuffled(self.train.samples.len(), config.batch_size, config.seed, epoch);
        self.steps_done += plan.len();
        let loader = Loader::new(Arc::clone(&self.train), plan, config.num_workers);
        self.announce(epoch, Phase::Train, &loader, observer);
        let (net, record, interrupted) = train_one_epoch(
            net,
            &mut self.optimizer,
            loader,
            &self.model.tasks,
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
        observer: &mut dyn Observer,
    ) -> Result<Option<PassRecord>, TrainError> {
        let config = self.config;
        let plan = loader::in_order(self.valid.samples.len(), config.batch_size);
        let loader = Loader::new(Arc::clone(&self.valid), plan, config.num_workers);
        self.announce(epoch, Phase::Validate, &loader, observer);
        let (record, interrupted) = validate_one_epoch(
            net,
            loader,
            &self.model.tasks,
            config.label_smoothing,
            &self.plain,
            self.stop,
            observer,
        )?;
        Ok((interrupted == Interrupted::No).then_some(record))
    }

    fn announce(&self, epoch: usize, phase: Phase, loader: &Loader, observer: &mut dyn Observer) {
        observer.observe(&Event::PassStarted {
            epoch: epoch + 1,
            epochs: self.config.epochs,
            phase,
            batches: loader.batches(),
        });
    }

    /// Judges a finished epoch and writes what it leaves behind.
    fn keep(
        &mut self,
        net: &MultiViewNet,
        epoch: usize,
        lr: f64,
        train: PassRecord,
        valid: PassRecord,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let score = valid.score();
        let best = score > self.best_score;
        self.info.epoch = epoch + 1;
        self.info.score = Some(score);
        let mut files = vec![checkpoint::LAST];
        if best {
            self.best_score = score;
            files.push(checkpoint::BEST);
        }
        self.save(net, &files, observer)?;
        let record = EpochRecord { epoch: epoch + 1, lr, train, valid, score, best };
        self.history.push(record.clone());
        let text = serde_json::to_string_pretty(&self.history);
        checkpoint::write_text(&self.config.save_dir.join(checkpoint::HISTORY), text)?;
        observer.observe(&Event::Epoch(record));
        Ok(())
    }

    fn save(
        &self,
        net: &MultiViewNet,
        files: &[&str],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        // Reading the weights back from the device is the dear part: once for all files.
        let bytes = checkpoint::encode(&self.config.save_dir, net, &self.info)?;
        for file in files {
            let path = self.config.save_dir.join(file);
            checkpoint::write_atomically(&path, &bytes)?;
            observer.observe(&Event::Saved(path));
        }
        Ok(())
    }
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
    Err(TrainError::TooLarge {
        batch_size: config.batch_size,
        clips,
        size: size.map(|side| side.to_string()).join("×"),
        need: need >> 20,
        limit: limit >> 20,
        device: compute.info.name.clone(),
    })
}
