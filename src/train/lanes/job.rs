//! What a device computes for some lanes of a batch.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, StreamId, Tensor};

use super::result::LaneResult;
use super::sync_norm::{SyncLane, SyncNorm};
use crate::data::Batch;
use crate::device::MemoryWatch;
use crate::model::{DropoutMasks, MultiViewNet, plain_clips_of};
use crate::train::augmenter::Augmenter;
use crate::train::error::TrainError;
use crate::train::memory::StepMemory;
use crate::train::objective::Objective;
use crate::train::step::{Step, Together};

/// A batch that is computed on several devices.
#[derive(Debug)]
pub(in crate::train) struct LaneJob {
    pub batch: Arc<Batch>,
    pub objective: Arc<Objective>,
    pub memory: StepMemory,
    pub work: Work,
    /// For a training step with batch norm over all lanes.
    pub sync_norm: Option<Arc<SyncNorm>>,
}

/// What is done with it.
#[derive(Debug)]
pub(in crate::train) enum Work {
    /// A training step.
    Train {
        augmenter: Option<Augmenter>,
        seed: u64,
        epoch: usize,
        /// The step's number in the run.
        step: usize,
        loss_scale: f64,
    },
    /// Predictions.
    Validate,
}

/// Clips of a batch that are on a device already; handed out once.
pub(in crate::train) type FirstClips = RefCell<Option<(Range<usize>, Tensor<5>)>>;

impl LaneJob {
    /// Computes these lanes on `device`, which has automatic differentiation; `net` has none for
    /// validation. `queued` is called once, while the device computes; lanes that exchange statistics
    /// wait for each other until it has had them served.
    pub(in crate::train) fn run(
        &self,
        net: &MultiViewNet,
        lanes: Range<usize>,
        device: &Device,
        first: &FirstClips,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<Vec<LaneResult>, TrainError> {
        if let Some(all) = &self.sync_norm {
            return self.run_together(net, lanes, device, first, all, queued);
        }
        let mut watch = MemoryWatch::start(device);
        let last = lanes.end;
        let mut results = Vec::new();
        for lane in lanes {
            let mut after = || if lane + 1 == last { queued() } else { Ok(()) };
            let actions = self.batch.lanes[lane].clone();
            results.push(if actions.is_empty() {
                after()?;
                LaneResult::default()
            } else {
                self.lane(net, actions, device, first, &mut watch, &mut after, None)?
            });
        }
        Ok(results)
    }

    /// The same with a thread for each lane: they wait for each other at every layer. For the device all
    /// are one thread.
    fn run_together(
        &self,
        net: &MultiViewNet,
        lanes: Range<usize>,
        device: &Device,
        first: &FirstClips,
        all: &Arc<SyncNorm>,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<Vec<LaneResult>, TrainError> {
        let most = self.memory.micro_batch;
        let twice = self.batch.lanes.iter().any(|lane| self.batch.clips_of(lane).len() > most);
        let stream = StreamId::current();
        std::thread::scope(|scope| {
            let start = |number: usize| {
                let actions = self.batch.lanes[number].clone();
                if actions.is_empty() {
                    return None;
                }
                let clips = self.batch.clips_of(&actions);
                let held = first.take();
                let (own, others) = match held {
                    Some((range, held)) if clips.contains(&range.start) => {
                        (Some((range, held)), None)
                    }
                    others => (None, others),
                };
                first.replace(others);
                let net = OwnGraph::of(net);
                let lane = Arc::new(SyncLane::new(all, number));
                let work = move || {
                    let mut watch = MemoryWatch::start(device);
                    let together = Together { lane: Arc::clone(&lane), twice };
                    let (first, together) = (RefCell::new(own), Some(together));
                    let mut queued = || Ok(());
                    let result =
                        self.lane(&net, actions, device, &first, &mut watch, &mut queued, together);
                    if result.is_err() {
                        lane.fail();
                    }
                    match lane.take_error() {
                        Some(error) => Err(error.into()),
                        None => result,
                    }
                };
                Some(scope.spawn(move || stream.executes(work)))
            };
            let threads: Vec<_> = lanes.map(start).collect();
            let queued = queued();
            let results = threads.into_iter().map(|thread| match thread.map(|of| of.join()) {
                None => Ok(LaneResult::default()),
                Some(Ok(result)) => result,
                Some(Err(panic)) => std::panic::resume_unwind(panic),
            });
            let results: Vec<_> = results.collect();
            queued?;
            results.into_iter().collect()
        })
    }

    fn lane(
        &self,
        net: &MultiViewNet,
        actions: Range<usize>,
        device: &Device,
        first: &FirstClips,
        watch: &mut MemoryWatch,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
        together: Option<Together>,
    ) -> Result<LaneResult, TrainError> {
        let (batch, objective): (&Batch, &Objective) = (&self.batch, &self.objective);
        let Work::Train { augmenter, seed, epoch, step, loss_scale } = &self.work else {
            let annotated = objective.annotated_of(batch, actions.clone());
            let (most, device) = (self.memory.micro_batch, device.clone().without_autodiff());
            let prediction = net.predict_some(batch, actions.clone(), &annotated, most, &device)?;
            let cost = objective.cost_of(&prediction, batch, actions);
            queued()?;
            return LaneResult::of_prediction(prediction, cost, watch);
        };
        let masks = DropoutMasks::new(*seed, *step as u64, &batch.actions);
        let clips = |range: Range<usize>| match first.take() {
            Some((first, clips)) if first == range => Ok(clips),
            _ => training_clips(augmenter.as_ref(), batch, range, *epoch, *step, device),
        };
        let (memory, loss_scale) = (self.memory, *loss_scale);
        let clips = &clips;
        let step = Step { net, objective, batch, actions, clips, memory, loss_scale, together };
        let work = step.queue(Some(&masks));
        queued()?;
        LaneResult::of_step(work?.finish(watch)?, net)
    }
}

/// Makes copies of a network whose graphs are their own. Burn keeps graphs that share a parameter as one,
/// and lets one thread at a time go through it.
struct OwnGraph;

impl OwnGraph {
    fn of(net: &MultiViewNet) -> MultiViewNet {
        net.clone().map(&mut Self)
    }
}

impl ModuleMapper for OwnGraph {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.val().is_require_grad() {
            return param;
        }
        let (id, value, mapper) = param.consume();
        Param::from_mapped_value(id, Tensor::from_inner(value.inner()).require_grad(), mapper)
    }
}

/// Some clips of a batch, ready for a training step.
pub(in crate::train) fn training_clips(
    augmenter: Option<&Augmenter>,
    batch: &Batch,
    range: Range<usize>,
    epoch: usize,
    step: usize,
    device: &Device,
) -> Result<Tensor<5>, TrainError> {
    Ok(match augmenter {
        Some(augmenter) => augmenter.clips_of(batch, range, epoch, step, device)?,
        None => plain_clips_of(batch, range, device)?,
    })
}
