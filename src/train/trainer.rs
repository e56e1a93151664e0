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
use super::lanes::Lanes;
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

/// Trains and validates a network. Owns everything that a step changes; what a run adds (the order
/// of the data, schedules, checkpoints) stays with the caller.
pub struct Trainer<'a> {
    /// Absent only while the optimizer updates it.
    net: Option<MultiViewNet>,
    /// Turns gradients into updates.
    pub optimizer: Optimizer,
    /// The loss that is minimised.
    pub objective: Arc<Objective>,
    /// How training clips are augmented; `None` leaves them as they are.
    pub augmenter: Option<Augmenter>,
    /// How the actions of training batches are mixed; `None` leaves them apart.
    pub mixing: Option<Mixing>,
    /// How much of a batch is in memory at once. Halved when the device runs out of memory.
    pub memory: StepMemory,
    /// What the loss is multiplied by, for a network in half precision.
    pub loss_scale: Option<LossScale>,
    /// The average of the weights that is validated in their place.
    pub average: Option<WeightAverage>,
    /// Where steps are recorded, if they are.
    pub recorder: Option<Recorder>,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Epochs begun, hence the number of the current one, from 1. The augmentation draws by it.
    pub epoch: usize,
    /// Training steps done in all epochs. Names the dropout masks and the frame size of each batch.
    pub steps: usize,
    /// With automatic differentiation.
    device: Device,
    /// Several, and the devices that compute them.
    lanes: Option<Lanes>,
    stop: &'a AtomicBool,
    observer: Box<dyn FnMut(&Event) + 'a>,
}

/// A training pass in progress.
pub struct TrainPass {
    loader: Loader,
    metrics: PassMetrics,
    next: Option<Uploaded>,
    watch: MemoryWatch,
}

impl<'a> Trainer<'a> {
    /// A trainer of `net` on `device`; whether that has automatic differentiation on does not
    /// matter.
    pub fn new(
        net: MultiViewNet,
        optimizer: Optimizer,
        objective: Objective,
        device: &Device,
    ) -> Self {
        Self {
            loss_scale: net.backbone.is_half().then(LossScale::default),
            net: Some(net),
            optimizer,
            objective: objective.into(),
            augmenter: None,
            mixing: None,
            memory: StepMemory::default(),
            average: None,
            recorder: None,
            seed: 0,
            epoch: 0,
            steps: 0,
            device: device.clone().without_autodiff().autodiff(),
            lanes: None,
            stop: &NEVER,
            observer: Box::new(|_| {}),
        }
    }

    /// Ends every pass after the step in progress once `stop` is raised.
    #[must_use]
    pub fn stopped_by(self, stop: &'a AtomicBool) -> Self {
        Self { stop, ..self }
    }

    /// Reports every step to `observer`.
    #[must_use]
    pub fn observed_by(self, observer: &'a mut dyn Observer) -> Self {
        Self { observer: Box::new(|event| observer.observe(event)), ..self }
    }

    /// Computes steps in lanes. The loaders of its passes must have plans with as many.
    #[must_use]
    pub fn in_lanes(self, lanes: Lanes) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    /// Lanes of each step.
    pub fn lanes(&self) -> usize {
        self.lanes.as_ref().map_or(1, Lanes::count)
    }

    /// The network as it is now.
    pub fn net(&self) -> &MultiViewNet {
        self.net.as_ref().expect("the network is only absent during an update")
    }

    /// The network as it is now, and an end of the training.
    pub fn into_net(self) -> MultiViewNet {
        self.net.expect("the network is only absent during an update")
    }

    /// Freezes the stages of the backbone that are not in `trainable` and unfreezes the others.
    pub fn set_trainable(&mut self, trainable: StageSet) {
        self.net = self.net.take().map(|net| net.with_trainable(trainable));
        if let Some(lanes) = &mut self.lanes {
            lanes.replaced();
        }
    }

    /// The device, with automatic differentiation.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether the user stops the run.
    pub fn stopped(&self) -> bool {
        let agreed = self.lanes.as_ref().and_then(Lanes::stopped);
        agreed.unwrap_or_else(|| self.stop.load(Ordering::Relaxed))
    }

    /// Reports an event.
    pub fn observe(&mut self, event: &Event) {
        (self.observer)(event);
    }

    /// Trains on every batch of `loader` and returns the pass's metrics. `rates` are the learning
    /// rates of a step of the epoch, counted from 0.
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

    /// Begins the rest of a pass of which `progress` is done; `loader` has the batches that remain.
    pub fn resume_epoch(&mut self, loader: Loader, progress: PassProgress) -> TrainPass {
        self.epoch += 1;
        let watch = MemoryWatch::start(&self.device);
        self.restart_clock();
        TrainPass { loader, metrics: PassMetrics::new(progress), next: None, watch }
    }

    /// One training step: the next batch, its gradients, the update. `false` if there was no batch
    /// left, or if the user stops the run.
    ///
    /// # Errors
    /// As [`Trainer::train_one_epoch`].
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
                "epoch {} step {}: gradients beyond the range of f16: the step is left out, the loss \
                 scale halved to {}",
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
        // Heads are in f32: a step of theirs says nothing of the scale.
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

    /// Records a step with gradients of this norm, before its update.
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

    /// Updates the network by gradients of this norm, which have the factor of the loss.
    fn update(&mut self, grads: GradientsParams, norm: [f64; 2], rates: &Rates) {
        self.net = self.net.take().map(|net| {
            self.optimizer.update(net, grads, norm, &|path| rates.of(path), rates.momentum)
        });
        if let Some(lanes) = &mut self.lanes {
            lanes.updated();
        }
        if let (Some(average), Some(net)) = (&mut self.average, &self.net) {
            average.update(net);
        }
    }

    /// The end of a step with gradients of this norm, or of one that was left out.
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

    /// The metrics of a pass so far.
    pub fn record(&self, pass: &TrainPass) -> PassRecord {
        let loss_scale = self.loss_scale.map(|scale| scale.factor());
        let slowest = self.lanes.as_ref().and_then(Lanes::slowest);
        PassRecord { loss_scale, slowest, ..pass.metrics.record(&self.objective) }
    }
}

impl TrainPass {
    /// What a checkpoint keeps of the pass.
    pub fn progress(&self) -> PassProgress {
        self.metrics.progress()
    }

    /// Loss of the batch of the last step, before its update; `None` before the first one.
    pub fn last_loss(&self) -> Option<f64> {
        self.metrics.last_loss
    }
}
