//! The whole job: open everything, train and validate epoch by epoch, keep what was learned.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{
    Interrupted, Optimizer, StepSettings, TrainError, cosine, train_one_epoch, validate_one_epoch,
};
use crate::checkpoint::{self, CheckpointInfo};
use crate::config::Config;
use crate::data::Dataset;
use crate::data::loader::{self, Loader};
use crate::device::{self, Compute};
use crate::model::pretrained::load_pretrained;
use crate::model::{ModelConfig, parameter_count};
use crate::report::{EpochRecord, Event, Observer, Phase, RunSummary, SplitSummary};
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
    // Cheap refusals first: a mistake must show before anything is decoded or compiled.
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
    if let Some(path) = &config.pretrained {
        let report = load_pretrained(&mut net, &model, path)?;
        log::info!("{}: {} tensors loaded", path.display(), report.loaded);
        for (what, names) in [("missing", &report.missing), ("unexpected", &report.unexpected)] {
            if !names.is_empty() {
                log::warn!("{}: {what}: {}", path.display(), names.join(", "));
            }
        }
    }
    write_config(config)?;
    let parameters = parameter_count(&net);
    observer.observe(&Event::Started(summary(
        config, &schema, &model, &compute, parameters, &train, &valid,
    )));

    let mut optimizer = Optimizer::adamw(config.weight_decay, config.gradient_clip_norm);
    let mut info = CheckpointInfo::new(&schema, model.clone());
    let mut outcome =
        Outcome { history: Vec::new(), interrupted: false, save_dir: config.save_dir.clone() };
    let mut best_score = f64::NEG_INFINITY;
    let mut steps_done = 0;
    for epoch in 0..config.epochs {
        let settings = StepSettings {
            lr: cosine(config.lr, config.lr * ETA_MIN_SHARE, config.epochs, epoch),
            label_smoothing: config.label_smoothing,
            seed: config.seed,
            epoch: epoch + 1,
            first_step: steps_done,
        };
        let plan = loader::shuffled(train.samples.len(), config.batch_size, config.seed, epoch);
        steps_done += plan.len();
        let loader = Loader::new(Arc::clone(&train), plan, config.num_workers);
        announce(observer, epoch, config.epochs, Phase::Train, loader.batches());
        let (trained, train_record, interrupted) = train_one_epoch(
            net,
            &mut optimizer,
            loader,
            &model.tasks,
            &settings,
            &tracking,
            stop,
            observer,
        )?;
        net = trained;

        let mut valid_record = None;
        if interrupted == Interrupted::No {
            let plan = loader::in_order(valid.samples.len(), config.batch_size);
            let loader = Loader::new(Arc::clone(&valid), plan, config.num_workers);
            announce(observer, epoch, config.epochs, Phase::Validate, loader.batches());
            let (record, interrupted) = validate_one_epoch(
                &net,
                loader,
                &model.tasks,
                config.label_smoothing,
                &plain,
                stop,
                observer,
            )?;
            valid_record = (interrupted == Interrupted::No).then_some(record);
        }
        let last = config.save_dir.join(checkpoint::LAST);
        let Some(valid_record) = valid_record else {
            // The epoch is not over: the weights are kept, its figures are not.
            observer.observe(&Event::Interrupted);
            checkpoint::save(&last, &net, &info)?;
            observer.observe(&Event::Saved(last));
            outcome.interrupted = true;
            return Ok(outcome);
        };

        let score = valid_record.score();
        let best = score > best_score;
        info.epoch = epoch + 1;
        info.score = Some(score);
        checkpoint::save(&last, &net, &info)?;
        observer.observe(&Event::Saved(last));
        if best {
            best_score = score;
            let path = config.save_dir.join(checkpoint::BEST);
            checkpoint::save(&path, &net, &info)?;
            observer.observe(&Event::Saved(path));
        }
        let record = EpochRecord {
            epoch: epoch + 1,
            lr: settings.lr,
            train: train_record,
            valid: valid_record,
            score,
            best,
        };
        outcome.history.push(record.clone());
        write_history(config, &outcome.history)?;
        observer.observe(&Event::Epoch(record));
    }
    Ok(outcome)
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

fn announce(
    observer: &mut dyn Observer,
    epoch: usize,
    epochs: usize,
    phase: Phase,
    batches: usize,
) {
    observer.observe(&Event::PassStarted { epoch: epoch + 1, epochs, phase, batches });
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

fn write_config(config: &Config) -> Result<(), TrainError> {
    let path = config.save_dir.join(checkpoint::CONFIG);
    let text = toml::to_string(config).map_err(|error| checkpoint::CheckpointError::Write {
        path: path.clone(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(checkpoint::write_atomically(&path, text.as_bytes())?)
}

fn write_history(config: &Config, history: &[EpochRecord]) -> Result<(), TrainError> {
    let path = config.save_dir.join(checkpoint::HISTORY);
    let text = serde_json::to_string_pretty(history).map_err(|error| {
        checkpoint::CheckpointError::Write {
            path: path.clone(),
            source: std::io::Error::other(error.to_string()),
        }
    })?;
    Ok(checkpoint::write_atomically(&path, text.as_bytes())?)
}

fn summary(
    config: &Config,
    schema: &Schema,
    model: &ModelConfig,
    compute: &Compute,
    parameters: usize,
    train: &Dataset,
    valid: &Dataset,
) -> RunSummary {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let millions = parameters as f64 / 1e6;
    let pool = if model.attention { "attention" } else { "mean" };
    let settings = vec![
        pair("device", format!("{} ({})", compute.info.name, compute.info.id)),
        pair(
            "network",
            format!("{}, {pool} over views, {millions:.2} M parameters", model.backbone.name()),
        ),
        pair(
            "clip",
            format!(
                "{} frames of {}×{} from frames {} to {} at {} fps",
                config.frames_per_clip,
                config.img_height,
                config.img_width,
                config.start_frame,
                config.end_frame,
                config.target_fps
            ),
        ),
        pair(
            "training",
            format!(
                "{} epochs, {} actions a step, AdamW lr {} (cosine), weight decay {}, gradient norm \
                 ≤ {}, label smoothing {}, seed {}",
                config.epochs,
                config.batch_size,
                config.lr,
                config.weight_decay,
                config.gradient_clip_norm,
                config.label_smoothing,
                config.seed
            ),
        ),
        pair("files", config.save_dir.display().to_string()),
    ];
    let split = |dataset: &Dataset| SplitSummary {
        split: dataset.split.clone(),
        actions: dataset.samples.len(),
        views: dataset.views(),
        left_out: dataset.annotations.left_out.len() + dataset.annotations.problems.len(),
        classes: schema
            .tasks
            .iter()
            .enumerate()
            .map(|(index, task)| {
                let counts = dataset.class_counts(index, task.classes.len());
                let names = task.classes.iter().map(|class| class.name.clone());
                (task.name.clone(), names.zip(counts).collect())
            })
            .collect(),
    };
    RunSummary { settings, splits: vec![split(train), split(valid)] }
}
