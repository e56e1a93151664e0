//! The state in which a run starts: a new network, pretrained weights or a checkpoint.

use burn::tensor::Device;

use super::average::WeightAverage;
use super::error::TrainError;
use super::loss_scale::LossScale;
use super::metrics::PassProgress;
use super::objective::Objective;
use super::optimizer::{Optimizer, Rule};
use super::pair::{Saved, load_pair};
use super::state::{MemoryState, RunState, Snapshot};
use crate::checkpoint::{self, CheckpointError, CheckpointInfo};
use crate::config::{AUTO, Auto, Config};
use crate::model::pretrained::load_pretrained;
use crate::model::{ModelConfig, MultiViewNet};
use crate::report::EpochRecord;

/// The state in which a run starts.
pub(super) struct Start {
    pub net: MultiViewNet,
    /// Moving average of the weights, if one is kept.
    pub average: Option<WeightAverage>,
    pub optimizer: Optimizer,
    /// Records of the finished epochs.
    pub history: Vec<EpochRecord>,
    /// Progress within the next epoch.
    pub progress: Option<PassProgress>,
    /// Memory plan of the checkpointed run.
    pub memory: Option<MemoryState>,
    /// Loss scale of a checkpointed run in half precision.
    pub loss_scale: Option<LossScale>,
    /// Number of lanes of the checkpointed run.
    pub lanes: Option<usize>,
    /// Digests of the checkpointed run's training and validation splits.
    pub data: Option<[u32; 2]>,
    /// Digests of the training splits that the checkpointed weights were trained on.
    pub trained_digests: Option<Vec<u32>>,
    pub best_score: Option<f64>,
}

impl Start {
    /// Resumes if the configuration says so, otherwise builds a new network. `info` describes this
    /// run's checkpoints; `device` has automatic differentiation enabled.
    pub(super) fn open(
        config: &Config,
        info: &CheckpointInfo,
        objective: &Objective,
        device: &Device,
    ) -> Result<Self, TrainError> {
        if let Some(saved) = resumed(config, info, objective, device)? {
            return Ok(Self::from_saved(config, &info.model, saved, device));
        }
        let mut net = info.model.init(config.run.seed, device);
        if let Some(path) = &config.network.pretrained {
            checkpoint::verify(path)?;
            let report = load_pretrained(&mut net, &info.model, path)?;
            log::info!("{}: {} tensors loaded", path.display(), report.loaded);
            if let Some(differences) = report.differences() {
                log::warn!("{}: {differences}", path.display());
            }
        }
        let (net, average) = networks(config, &info.model, net, None, device);
        Ok(Self {
            net,
            average,
            optimizer: new_optimizer(config),
            history: Vec::new(),
            progress: None,
            memory: None,
            loss_scale: None,
            lanes: None,
            data: None,
            trained_digests: None,
            best_score: None,
        })
    }

    /// Continues from a checkpoint of a network with the architecture `model`.
    pub(super) fn from_saved(
        config: &Config,
        model: &ModelConfig,
        saved: Saved,
        device: &Device,
    ) -> Self {
        let Saved { net, info, state, moments, trained } = saved;
        // Without `..`: a new field must not be forgotten here.
        let RunState {
            format_version: _,
            polyview_version: _,
            weights: _,
            epoch: _,
            progress,
            best_score,
            memory,
            lanes,
            loss_scale,
            average,
            data,
            updates: _,
            config: before,
            history,
        } = state;
        let (net, average) = networks(config, model, net, trained.zip(average), device);
        let mut optimizer = new_optimizer(config);
        let kind = |config: &Config| config.optimizer.optimizer.moments();
        if kind(config) == kind(&before) {
            optimizer.moments = moments;
        } else {
            log::warn!(
                "the checkpoint's optimizer moments are for another kind of optimizer and are discarded"
            );
        }
        let best_score = match config.run.resume_best_acc {
            // A job that is restarted repeatedly passes the same value each time.
            given if given == before.run.resume_best_acc => best_score,
            given => given.or(best_score),
        };
        Self {
            net,
            average,
            optimizer,
            history,
            progress,
            memory: Some(memory),
            loss_scale,
            lanes: Some(lanes),
            data,
            trained_digests: Some(info.trained_digests),
            best_score,
        }
    }

    /// Sets whether activations are stored in half precision or in f32.
    #[must_use]
    pub(super) fn with_half(self, half: bool) -> Self {
        let net = self.net.with_half(half);
        Self { net, average: self.average.map(|average| average.with_half(half)), ..self }
    }

    /// Returns this state as a checkpoint's; what only a resumed run has is filled in.
    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            net: &self.net,
            average: self.average.as_ref(),
            optimizer: &self.optimizer,
            memory: self.memory.unwrap_or_default(),
            loss_scale: self.loss_scale,
            lanes: self.lanes.unwrap_or(1),
            history: &self.history,
            progress: self.progress.clone(),
        }
    }
}

fn new_optimizer(config: &Config) -> Optimizer {
    Optimizer::new(Rule::new(config), config.optimizer.gradient_clip_norm)
}

/// Returns the network to train and the average of its weights from those of a checkpoint. If the
/// checkpointed run kept an average, `net` has the averaged weights and `trained` is the network
/// that was trained, with the number of updates of the average.
fn networks(
    config: &Config,
    model: &ModelConfig,
    net: MultiViewNet,
    trained: Option<(MultiViewNet, u64)>,
    device: &Device,
) -> (MultiViewNet, Option<WeightAverage>) {
    let decay = config.optimizer.ema;
    match trained {
        Some((trained, updates)) => {
            (trained, decay.map(|decay| WeightAverage::resume(decay, updates, net)))
        }
        None => {
            let average = decay.map(|decay| WeightAverage::new(decay, &net, model, device));
            (net, average)
        }
    }
}

/// Loads the checkpoint to resume from; `None` if there is none.
fn resumed(
    config: &Config,
    info: &CheckpointInfo,
    objective: &Objective,
    device: &Device,
) -> Result<Option<Saved>, TrainError> {
    let path = match &config.run.resume {
        None => return Ok(None),
        Some(auto) if auto.as_os_str() == AUTO => {
            let last = config.run.save_dir.join(checkpoint::LAST);
            if !last.exists() {
                log::info!(
                    "no checkpoint to resume from in {}: starting from scratch",
                    config.run.save_dir.display()
                );
                return Ok(None);
            }
            last
        }
        Some(file) => file.clone(),
    };
    let saved = load_pair(&path, device)?;
    let refuse = |reason: String| CheckpointError::Resume { path: path.clone(), reason };
    if let Some(difference) = difference(&saved.info, info) {
        return Err(refuse(difference).into());
    }
    if saved.state.progress.as_ref().is_some_and(|progress| !progress.fits(objective)) {
        let reason = "it was written within an epoch, by a network with other heads";
        return Err(refuse(reason.to_owned()).into());
    }
    let mut before = saved.state.config.clone();
    let window = |info: &CheckpointInfo| info.input.as_ref().map(|input| input.window.window);
    if window(&saved.info) == window(info) {
        // The same window can be specified in different ways.
        before.clips.window = config.clips.window;
    }
    let changes = config.changes_from(&before);
    if !changes.is_empty() {
        log::warn!("the resumed run differs from the checkpoint's: {}", changes.join(", "));
    }
    if before.compute.gradient_checkpointing != config.compute.gradient_checkpointing
        && config.compute.micro_batch == Auto::Auto
    {
        log::warn!(
            "gradient-checkpointing was changed: if a batch does not fit in memory, its passes have a \
             different number of clips, which changes batch norm"
        );
    }
    let step = saved.state.progress.as_ref().map_or(0, |progress| progress.steps);
    log::info!("{}: resuming after epoch {}, step {step}", path.display(), saved.state.epoch);
    Ok(Some(saved))
}

/// Returns the reason why this run cannot resume from a checkpoint, if there is one.
fn difference(there: &CheckpointInfo, here: &CheckpointInfo) -> Option<String> {
    let differs = |what: &str, there: String, here: String| {
        (there != here).then(|| {
            format!(
                "its {what} is {there}, this run's is {here}: use the same, or another checkpoint"
            )
        })
    };
    let (old, new) = (&there.model, &here.model);
    differs("backbone", old.backbone.to_string(), new.backbone.to_string())
        .or_else(|| differs("schema", there.schema.clone(), here.schema.clone()))
        .or_else(|| differs("list of classes", list(&there.classes), list(&here.classes)))
        .or_else(|| differs("view aggregation", pool(old.attention), pool(new.attention)))
        .or_else(|| {
            let names = |model: &ModelConfig| list_of(model.inputs.iter().map(|i| i.name.as_str()));
            differs("list of annotation inputs", names(old), names(new))
        })
        .or_else(|| {
            let names = |model: &ModelConfig| list_of(model.auxiliary.iter().map(|a| a.0.as_str()));
            differs("list of auxiliary heads", names(old), names(new))
        })
        .or_else(|| {
            let rates = |m: &ModelConfig| format!("{} and {}", m.dropout_feature, m.dropout_head);
            differs("dropout", rates(old), rates(new))
        })
        .or_else(|| differs("network", format!("{old:?}"), format!("{new:?}")))
}

fn list(classes: &[Vec<String>]) -> String {
    let tasks: Vec<String> = classes.iter().map(|task| task.join(", ")).collect();
    format!("({})", tasks.join("; "))
}

fn list_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("({})", names.collect::<Vec<_>>().join(", "))
}

fn pool(attention: bool) -> String {
    if attention { "attention" } else { "mean" }.to_owned()
}
