//! The computation of some lanes of a batch on a device.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::gathering::Gathering;
use super::reader::GradientReader;
use super::result::LaneResult;
use super::sync_norm::SyncNorm;
use crate::data::Batch;
use crate::device::MemoryWatch;
use crate::model::{DropoutMasks, MultiViewNet, plain_clips_of};
use crate::train::augmenter::Augmenter;
use crate::train::error::TrainError;
use crate::train::memory::StepMemory;
use crate::train::mixing::mix_clips;
use crate::train::objective::Objective;
use crate::train::step::{Gradients, LaneSync, Queued, Step};

/// A batch to compute in lanes, and what to do with it.
#[derive(Debug)]
pub(in crate::train) struct LaneJob {
    pub batch: Arc<Batch>,
    pub objective: Arc<Objective>,
    pub memory: StepMemory,
    pub work: Work,
    /// Collects the gradients of a training step.
    pub gathering: Option<Arc<Gathering>>,
    /// Exchange of batch statistics in a training step with synchronised batch norm.
    pub sync_norm: Option<Arc<SyncNorm>>,
}

/// A copy of the network and its device. The device has automatic differentiation enabled; the copy
/// has it disabled for validation.
#[derive(Clone, Copy)]
pub(in crate::train) struct Replica<'a> {
    pub net: &'a MultiViewNet,
    pub device: &'a Device,
}

/// The work to do on a batch.
#[derive(Debug)]
pub(in crate::train) enum Work {
    /// A training step.
    Train {
        augmenter: Option<Augmenter>,
        seed: u64,
        epoch: usize,
        /// Number of the step in the run.
        step: usize,
        loss_scale: f64,
    },
    /// Predictions.
    Validate,
}

/// Clips of a batch that are already on the trainer's device; taken by the first pass that needs them.
pub(in crate::train) type FirstClips = RefCell<Option<(Range<usize>, Tensor<5>)>>;

impl LaneJob {
    /// Computes these lanes. `queued` is called once, while the device is busy. Lanes that exchange
    /// statistics depend on it: it must serve the exchange.
    pub(in crate::train) fn run(
        &self,
        on: Replica,
        lanes: Range<usize>,
        first: &FirstClips,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<Vec<LaneResult>, TrainError> {
        let unfinished = Unfinished::new(self);
        let results = self.run_lanes(on, lanes, first, queued)?;
        unfinished.finished();
        Ok(results)
    }

    /// Wakes everything that waits for lanes that will not be computed.
    fn fail(&self) {
        self.gathering.iter().for_each(|gathering| gathering.fail());
        self.sync_norm.iter().for_each(|all| all.abort());
    }

    fn run_lanes(
        &self,
        on: Replica,
        lanes: Range<usize>,
        first: &FirstClips,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<Vec<LaneResult>, TrainError> {
        if let Some(all) = &self.sync_norm {
            return self.run_synchronised(on, lanes, first, all, queued);
        }
        let mut watch = MemoryWatch::start(on.device);
        let last = lanes.end;
        let mut results = Vec::new();
        for lane in lanes {
            let mut after = || if lane + 1 == last { queued() } else { Ok(()) };
            results.push(if self.batch.lanes[lane].is_empty() {
                after()?;
                LaneResult::default()
            } else {
                self.lane(on, lane, first, None, &mut watch, &mut after)?
            });
        }
        Ok(results)
    }

    /// Computes a lane, which must have actions.
    pub(super) fn lane(
        &self,
        Replica { net, device }: Replica,
        lane: usize,
        first: &FirstClips,
        lane_sync: Option<LaneSync>,
        watch: &mut MemoryWatch,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<LaneResult, TrainError> {
        let (batch, objective): (&Batch, &Objective) = (&self.batch, &self.objective);
        let actions = batch.lanes[lane].clone();
        let Work::Train { augmenter, seed, epoch, step, loss_scale } = &self.work else {
            let annotated = objective.annotated_in(batch, actions.clone());
            let (most, device) = (self.memory.micro_batch, device.clone().without_autodiff());
            let prediction = net.predict_some(batch, actions.clone(), &annotated, most, &device)?;
            let cost = objective.cost_of(&prediction, batch, actions);
            queued()?;
            return LaneResult::of_prediction(prediction, cost, watch);
        };
        let masks = DropoutMasks::new(*seed, *step as u64, &batch.actions, &batch.earlier);
        let clips = |range: Range<usize>| match first.take() {
            Some((first, clips)) if first == range => Ok(clips),
            _ => training_clips(augmenter.as_ref(), batch, range, *epoch, *step, device),
        };
        let (memory, loss_scale) = (self.memory, *loss_scale);
        let gathering = self.gathering.as_ref().expect("a training step has gradients");
        let reader = GradientReader::start(net, lane, gathering);
        let step = Step {
            net,
            objective,
            batch,
            actions,
            clips: &clips,
            memory,
            loss_scale,
            lane_sync,
            gradient_sink: Some(&reader),
        };
        let mut work = step.queue(Some(&masks));
        if work.is_err() {
            // The lane's gradients will never be delivered.
            gathering.fail();
        }
        let rest = work.as_mut().map(Queued::take_gradients).unwrap_or_default();
        let read = reader.finish(rest);
        queued()?;
        let Gradients { statistics, result, .. } = work?.finish(watch)?;
        let result = LaneResult::of_step(statistics, result, net)?;
        read()?;
        Ok(result)
    }
}

/// A job with some unfinished lanes. Dropping it without [`Unfinished::finished`], for whatever
/// reason, fails the job, so that nothing waits for these lanes any longer.
#[derive(Debug)]
pub(super) struct Unfinished<J: Borrow<LaneJob>>(Option<J>);

impl<J: Borrow<LaneJob>> Unfinished<J> {
    pub(super) fn new(job: J) -> Self {
        Self(Some(job))
    }

    /// Returns the job.
    pub(super) fn job(&self) -> &LaneJob {
        self.0.as_ref().expect("the job is only taken when it is finished").borrow()
    }

    /// Marks the lanes as computed.
    pub(super) fn finished(mut self) {
        self.0 = None;
    }
}

impl<J: Borrow<LaneJob>> Drop for Unfinished<J> {
    fn drop(&mut self) {
        if let Some(job) = &self.0 {
            job.borrow().fail();
        }
    }
}

/// Returns some clips of a batch, augmented and mixed for a training step.
pub(in crate::train) fn training_clips(
    augmenter: Option<&Augmenter>,
    batch: &Batch,
    range: Range<usize>,
    epoch: usize,
    step: usize,
    device: &Device,
) -> Result<Tensor<5>, TrainError> {
    let read = |range| {
        Ok(match augmenter {
            Some(augmenter) => augmenter.clips_of(batch, range, epoch, step, device)?,
            None => plain_clips_of(batch, range, device)?,
        })
    };
    mix_clips(batch, range.clone(), read(range)?, &read)
}
