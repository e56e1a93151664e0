//! The training loop.

mod gradients;
mod in_lanes;
mod validation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::optim::GradientsParams;
use burn::tensor::Device;

use super::augmenter::Augmenter;
use super::average::WeightAverage;
use super::error::TrainError;
use super::lanes::{LaneShare, Lanes};
use super::loss_scale::LossScale;
use super::memory::StepMemory;
use super::metrics::{PassMetrics, PassProgress};
use super::mixing::Mixing;
use super::objective::{BatchResult, Objective};
use super::optimizer::{Optimizer, first_not_finite, global_norm};
use super::recording::{RecordedStep, Recorder};
use super::run_schedule::Rates;
use super::step::Gradients;
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::device::MemoryWatch;
use crate::model::{DropoutMasks, MultiViewNet, StageSet};
use crate::report::{Event, Observer, PassKind, PassRecord};
use gradients::Uploaded;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Trains and validates a network. Owns everything that a training step changes; everything else that
/// a run needs (data order, schedules, checkpoints) stays with the caller.
pub struct Trainer<'a> {
    /// The network; `None` only during an optimizer update.
    net: Option<MultiViewNet>,
    /// Turns gradients into updates.
    pub optimizer: Optimizer,
    /// The loss that is minimised.
    pub objective: Arc<Objective>,
    /// Augmentation of training clips; `None` disables it.
    pub augmenter: Option<Augmenter>,
    /// Mixup or cutmix between the actions of a training batch; `None` disables it.
    pub mixing: Option<Mixing>,
    /// Memory plan of a step. Its micro-batch is halved when the device runs out of memory.
    pub memory: StepMemory,
    /// Loss scale of a network in half precision.
    pub loss_scale: Option<LossScale>,
    /// Moving average of the weights, which is validated instead of the weights themselves.
    pub average: Option<WeightAverage>,
    /// Recorder of the training steps, if they are recorded.
    pub recorder: Option<Recorder>,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Number of epochs started, i.e. the current epoch, counted from 1. Seeds the augmentation.
    pub epoch: usize,
    /// Number of training steps done over all epochs. Determines the dropout masks and the frame size
    /// of each batch.
    pub steps: usize,
    /// Device with automatic differentiation enabled.
    device: Device,
    /// Lanes of each step and the devices that compute them; `None` computes a step as one lane.
    lanes: Option<Lanes>,
    stop: &'a AtomicBool,
    observer: Box<dyn FnMut(&Event) + 'a>,
}

/// What a trainer is made of; its fields of the same names describe them.
pub(super) struct TrainerParts<'a, 'd> {
    pub net: MultiViewNet,
    pub optimizer: Optimizer,
    pub objective: Objective,
    pub augmenter: Option<Augmenter>,
    pub mixing: Option<Mixing>,
    /// Loss scale of the checkpointed run.
    pub loss_scale: Option<LossScale>,
    pub average: Option<WeightAverage>,
    pub recorder: Option<Recorder>,
    pub seed: u64,
    /// Device with automatic differentiation enabled or not.
    pub device: &'d Device,
    pub lanes: Option<Lanes>,
    pub stop: &'a AtomicBool,
    pub observer: Box<dyn FnMut(&Event) + 'a>,
}

/// A training pass in progress.
pub struct TrainPass {
    loader: Loader,
    metrics: PassMetrics,
    next: Option<Uploaded>,
    watch: MemoryWatch,
}

impl<'a> Trainer<'a> {
    /// Creates a trainer of `net` on `device`, which may have automatic differentiation enabled or
    /// not.
    pub fn new(
        net: MultiViewNet,
        optimizer: Optimizer,
        objective: Objective,
        device: &Device,
    ) -> Self {
        Self::from_parts(TrainerParts {
            net,
            optimizer,
            objective,
            augmenter: None,
            mixing: None,
            loss_scale: None,
            average: None,
            recorder: None,
            seed: 0,
            device,
            lanes: None,
            stop: &NEVER,
            observer: Box::new(|_| {}),
        })
    }

    /// Creates a trainer that has not trained yet.
    pub(super) fn from_parts(parts: TrainerParts<'a, '_>) -> Self {
        // A run resumed in f32 needs no loss scale; one newly in f16 starts from the default.
        let half = parts.net.backbone.is_half();
        Self {
            loss_scale: half.then(|| parts.loss_scale.unwrap_or_default()),
            net: Some(parts.net),
            optimizer: parts.optimizer,
            objective: parts.objective.into(),
            augmenter: parts.augmenter,
            mixing: parts.mixing,
            memory: StepMemory::default(),
            average: parts.average,
            recorder: parts.recorder,
            seed: parts.seed,
            epoch: 0,
            steps: 0,
            device: parts.device.clone().without_autodiff().autodiff(),
            lanes: parts.lanes,
            stop: parts.stop,
            observer: parts.observer,
        }
    }

    /// Makes every pass end after the step in progress once `stop` is set.
    #[must_use]
    pub fn stopped_by(self, stop: &'a AtomicBool) -> Self {
        Self { stop, ..self }
    }

    /// Reports every step to `observer`.
    #[must_use]
    pub fn observed_by(self, observer: &'a mut dyn Observer) -> Self {
        Self { observer: Box::new(|event| observer.observe(event)), ..self }
    }

    /// Computes steps in lanes. The loaders' plans must have the same number of lanes.
    #[must_use]
    pub fn in_lanes(self, lanes: Lanes) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    /// Returns the number of lanes in each step.
    pub fn lanes(&self) -> usize {
        self.lanes.as_ref().map_or(1, Lanes::count)
    }

    /// Returns which lanes of each batch this process computes.
    pub(super) fn share(&self) -> LaneShare {
        self.lanes.as_ref().map_or(LaneShare { count: 1, own: 0..1 }, Lanes::share)
    }

    /// Returns the network with its current weights.
    pub fn net(&self) -> &MultiViewNet {
        self.net.as_ref().expect("the network is only absent during an update")
    }

    /// Consumes the trainer and returns the network with its current weights.
    pub fn into_net(self) -> MultiViewNet {
        self.net.expect("the network is only absent during an update")
    }

    /// Freezes the stages of the backbone that are not in `trainable` and unfreezes the others.
    pub fn set_trainable(&mut self, trainable: StageSet) {
        self.net = self.net.take().map(|net| net.with_trainable(trainable));
        if let Some(lanes) = &mut self.lanes {
            lanes.mark_replaced();
        }
    }

    /// Returns the device, with automatic differentiation enabled.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns whether the user has asked the run to stop.
    pub fn stopped(&self) -> bool {
        let agreed = self.lanes.as_ref().and_then(Lanes::stopped);
        agreed.unwrap_or_else(|| self.stop.load(Ordering::Relaxed))
    }

    /// Passes an event to the observer.
    pub fn observe(&mut self, event: &Event) {
        (self.observer)(event);
    }

    /// Trains on every batch of `loader` and returns the metrics of the pass. `rates` maps a step of
    /// the epoch, counted from 0, to its learning rates.
    ///
    /// # Errors
    /// Unreadable data, a loss that is not finite, a device that fails.
    pub fn train_one_epoch(
        &mut self,
        loader: Loader,
        rates: impl Fn(usize) -> Rates,
    ) -> Result<PassRecord, TrainError> {
        let mut pass = self.begin_epoch(loader);
        while self.train_step(&mut pass, &rates)? {}
        Ok(self.record(&pass))
    }

    /// Begins the next epoch's pass over `loader`.
    pub fn begin_epoch(&mut self, loader: Loader) -> TrainPass {
        let progress = PassProgress::new(&self.objective);
        self.resume_epoch(loader, progress)
    }

    /// Resumes a pass that has got as far as `progress`; `loader` has the remaining batches.
    pub fn resume_epoch(&mut self, loader: Loader, progress: PassProgress) -> TrainPass {
        self.epoch += 1;
        let watch = MemoryWatch::start(&self.device);
        self.restart_clock();
        TrainPass { loader, metrics: PassMetrics::new(progress), next: None, watch }
    }

    /// Performs one training step: loads the next batch, computes its gradients and updates the
    /// network. Returns `false` if no batch was left or the user has asked the run to stop.
    ///
    /// # Errors
    /// Those of [`Trainer::train_one_epoch`].
    pub fn train_step(
        &mut self,
        pass: &mut TrainPass,
        rates: &dyn Fn(usize) -> Rates,
    ) -> Result<bool, TrainError> {
        let Some(uploaded) = self.next_batch(pass)? else {
            return Ok(false);
        };
        let Gradients { grads, statistics, result } = self.gradients(&uploaded, pass)?;
        let (done, half) = (pass.metrics.steps(), self.loss_scale.is_some());
        let not_finite = |what: String, value: f64| {
            let actions = uploaded.batch.actions.join(", ");
            let (epoch, step) = (self.epoch, done + 1);
            TrainError::NotFinite { what, value, epoch, step, actions, half }
        };
        if !result.losses.total.is_finite() {
            return Err(not_finite("the loss".to_owned(), result.losses.total));
        }
        let loss_scale = self.loss_scale.map_or(1.0, |scale| scale.factor());
        let norm = global_norm(self.net(), &grads)? / loss_scale;
        if !norm.is_finite() && self.loss_scale.as_mut().is_some_and(LossScale::overflowed) {
            log::info!(
                "epoch {} step {}: gradients beyond the range of f16: step left out, loss scale halved \
                 to {}",
                self.epoch,
                done + 1,
                loss_scale / 2.0
            );
            return self.finish_step(pass, uploaded, result, None);
        }
        if !norm.is_finite() {
            let parameter = first_not_finite(self.net(), &grads)?;
            let first = parameter.map_or_else(String::new, |name| format!(" (first in `{name}`)"));
            let smallest = self.loss_scale.map_or("", |_| ", with a loss scale of 1,");
            return Err(not_finite(format!("the gradient norm{first}{smallest}"), norm));
        }
        statistics.apply();
        let rates = rates(done);
        self.record_step(&uploaded, &result, norm, &rates)?;
        self.update(grads, [norm, loss_scale], &rates);
        // The heads are in f32: a step that trains only them says nothing about the loss scale.
        let trains_backbone = self.net().backbone.lowest_trainable().is_some();
        if let Some(loss_scale) = self.loss_scale.as_mut().filter(|_| trains_backbone) {
            loss_scale.good();
        }
        log::debug!(
            "epoch {} step {}: loss {:.4}, norm {norm:.3}",
            self.epoch,
            done + 1,
            result.losses.total
        );
        self.finish_step(pass, uploaded, result, Some(norm))
    }

    /// Records a step before its update, if steps are recorded. `norm` is its gradient norm.
    fn record_step(
        &self,
        uploaded: &Uploaded,
        result: &BatchResult,
        norm: f64,
        rates: &Rates,
    ) -> Result<(), TrainError> {
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        let (batch, before): (&Batch, _) = (&uploaded.batch, uploaded.step);
        recorder.step(&RecordedStep {
            before,
            epoch: self.epoch,
            net: self.net(),
            batch,
            clips: self.clips(batch, 0..batch.clips(), before)?,
            masks: &DropoutMasks::new(self.seed, before as u64, &batch.actions, &batch.earlier),
            rates,
            losses: &result.losses,
            norm,
        })
    }

    /// Updates the network from `grads`, which are multiplied by the loss scale. `norm_and_scale` are
    /// the norm of the unscaled gradients and the loss scale.
    fn update(&mut self, grads: GradientsParams, norm_and_scale: [f64; 2], rates: &Rates) {
        self.net = self.net.take().map(|net| {
            self.optimizer.update(
                net,
                grads,
                norm_and_scale,
                &|path| rates.of(path),
                rates.momentum,
            )
        });
        if let Some(lanes) = &mut self.lanes {
            lanes.mark_updated();
        }
        if let (Some(average), Some(net)) = (&mut self.average, &self.net) {
            average.update(net);
        }
    }

    /// Finishes a step: adds it to the metrics and reports it. `norm` is the gradient norm; `None` if
    /// the step was skipped.
    fn finish_step(
        &mut self,
        pass: &mut TrainPass,
        uploaded: Uploaded,
        result: BatchResult,
        norm: Option<f64>,
    ) -> Result<bool, TrainError> {
        let Uploaded { batch, taken, .. } = uploaded;
        self.steps += 1;
        pass.metrics.add(&self.objective, &batch, result, norm)?;
        pass.metrics.done(taken);
        pass.metrics.exchanged = self.exchanged();
        if let Ok(batch) = Arc::try_unwrap(batch) {
            pass.loader.recycle(batch);
        }
        self.observe(&pass.metrics.event(&self.objective, self.epoch, PassKind::Train));
        Ok(!self.stopped())
    }

    /// Returns the metrics of a pass so far.
    pub fn record(&self, pass: &TrainPass) -> PassRecord {
        let loss_scale = self.loss_scale.map(|scale| scale.factor());
        let slowest = self.lanes.as_ref().and_then(Lanes::slowest);
        PassRecord { loss_scale, slowest, ..pass.metrics.record(&self.objective) }
    }
}

impl TrainPass {
    /// Returns the part of the pass's state that a checkpoint stores.
    pub fn progress(&self) -> PassProgress {
        self.metrics.progress()
    }

    /// Returns the loss of the last step's batch, before its update; `None` before the first step.
    pub fn last_loss(&self) -> Option<f64> {
        self.metrics.last_loss
    }
}
