//! The gradients of one training step, with the batch cut into as many parts as its memory plan
//! requires.
//!
//! Parts consist of whole actions, and their gradients are accumulated. An action with more clips
//! than fit into one pass needs two forward passes: the first computes the features of its clips,
//! chunk by chunk and without a graph; the gradient of the loss with respect to the features is
//! then propagated back through the clips, which are run again. Either way the loss is exactly that
//! of the whole batch. The only difference from a step in one pass is that batch norm sees just the
//! clips of one pass, as always with gradient accumulation.

use std::ops::Range;
use std::sync::Arc;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

use super::error::TrainError;
use super::memory::StepMemory;
use super::objective::{BatchResult, Cost, KnownLogits, Objective};
use crate::data::Batch;
use crate::device::MemoryWatch;
use crate::model::{
    BackbonePass, BatchStatistics, DropoutMasks, Keep, MultiViewNet, Prediction, STAGES,
    ViewLayout, even_chunks, features_only,
};
use crate::norm::Exchange;

/// Consecutive actions of a batch whose loss is computed together, with their clips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub actions: Range<usize>,
    pub clips: Range<usize>,
}

/// Cuts some actions of a batch into parts of whole actions with at most `most` clips; an action
/// with more clips becomes a separate part.
pub(super) fn parts(batch: &Batch, actions: &Range<usize>, most: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut clip = batch.clips_of(actions).start;
    for action in actions.clone() {
        let clips = clip..clip + batch.view_counts[action];
        clip = clips.end;
        match parts.last_mut() {
            Some(part) if clips.end - part.clips.start <= most => {
                part.actions.end = action + 1;
                part.clips.end = clips.end;
            }
            _ => parts.push(Part { actions: action..action + 1, clips }),
        }
    }
    parts
}

/// Returns the clips of the first forward pass over these actions.
pub(super) fn first_pass(batch: &Batch, actions: &Range<usize>, most: usize) -> Range<usize> {
    let first = parts(batch, actions, most).into_iter().next();
    first.and_then(|part| even_chunks(&part.clips, most).into_iter().next()).unwrap_or(0..0)
}

/// Returns a range of the batch's clips, ready for the network.
pub(super) type Clips<'a> = dyn Fn(Range<usize>) -> Result<Tensor<5>, TrainError> + 'a;

/// A step whose work has been queued on the device but not waited for.
pub(super) struct Queued {
    grads: GradientsParams,
    statistics: BatchStatistics,
    costs: Vec<Cost>,
    logits: Vec<Vec<Tensor<2>>>,
}

/// A step's gradients, batch statistics (not yet applied to the running statistics), losses and
/// predictions.
pub(super) struct Gradients {
    pub grads: GradientsParams,
    pub statistics: BatchStatistics,
    pub result: BatchResult,
}

/// Outcome of a step on a device that may run out of memory.
pub(super) enum Attempt {
    Done(Gradients),
    OutOfMemory,
}

/// The inputs of a step.
pub(super) struct Step<'a> {
    pub net: &'a MultiViewNet,
    pub objective: &'a Objective,
    pub batch: &'a Batch,
    /// Actions of the batch that the step computes, at least one.
    pub actions: Range<usize>,
    pub clips: &'a Clips<'a>,
    pub memory: StepMemory,
    /// Factor of the loss in the backward pass, by which the gradients are multiplied.
    pub loss_scale: f64,
    /// Synchronisation of batch norm with other lanes.
    pub lane_sync: Option<LaneSync<'a>>,
    /// Receives gradients as soon as they are queued, if the whole step is one part in one pass;
    /// otherwise they are in [`Queued`].
    pub gradient_sink: Option<&'a dyn GradientSink>,
}

/// Receives gradients as they are queued.
pub(super) trait GradientSink {
    /// Adds gradients, with which those of all stages from `stage` on are complete. The heads' gradients
    /// come before those of any stage.
    fn add(&self, stage: usize, gradients: GradientsParams);
}

/// A lane whose batch norm exchanges statistics with other lanes.
pub(super) trait ExchangesStatistics {
    /// Begins the first pass, or the `second` one, over chunk `index` of the lane's clips.
    fn begin(&self, second: bool, index: usize) -> Arc<dyn Exchange>;
}

/// How a lane's passes are synchronised with those of other lanes.
pub(super) struct LaneSync<'a> {
    pub lane: &'a dyn ExchangesStatistics,
    /// Whether all lanes run each forward pass twice, because the clips of some lane do not fit into one
    /// pass. Passes that share batch statistics must run at the same time in all lanes.
    pub two_passes: bool,
}

impl Step<'_> {
    /// Queues forward and backward passes. `masks` are the dropout masks of the whole batch; `None`
    /// disables dropout.
    pub(super) fn queue(&self, masks: Option<&DropoutMasks>) -> Result<Queued, TrainError> {
        let mut sum = GradientsAccumulator::new();
        let mut statistics = BatchStatistics::default();
        let (mut costs, mut logits) = (Vec::new(), Vec::new());
        let whole = || {
            let clips = self.batch.clips_of(&self.actions);
            vec![Part { actions: self.actions.clone(), clips }]
        };
        let parts = match &self.lane_sync {
            Some(_) => whole(),
            None => parts(self.batch, &self.actions, self.memory.micro_batch),
        };
        // With several parts the gradients are only complete after the last one.
        let sink = self.gradient_sink.filter(|_| parts.len() == 1);
        for part in parts {
            let (cost, prediction) = self.part(part, masks, sink, &mut sum, &mut statistics)?;
            costs.push(cost);
            logits.push(prediction.logits);
        }
        Ok(Queued { grads: sum.grads(), statistics, costs, logits })
    }

    /// Queues the passes of one part. Adds its gradients to `sum`, or passes them to `sink` if
    /// possible, and adds its batch statistics to `statistics`.
    fn part(
        &self,
        part: Part,
        masks: Option<&DropoutMasks>,
        sink: Option<&dyn GradientSink>,
        sum: &mut GradientsAccumulator<MultiViewNet>,
        statistics: &mut BatchStatistics,
    ) -> Result<(Cost, Prediction), TrainError> {
        let &Self { net, objective, batch, .. } = self;
        let backbone = &net.backbone;
        let StepMemory { micro_batch, gradient_checkpointing } = self.memory;
        let passes = even_chunks(&part.clips, micro_batch);
        let trains = backbone.lowest_trainable().is_some();
        let mut whole = None;
        let mut features = Vec::new();
        let begin =
            |second, index| self.lane_sync.as_ref().map(|sync| sync.lane.begin(second, index));
        let keep = match (gradient_checkpointing, sink) {
            (true, _) => Keep::Inputs,
            (false, Some(_)) => Keep::Stages,
            (false, None) => Keep::All,
        };
        let once =
            passes.len() == 1 && !self.lane_sync.as_ref().is_some_and(|sync| sync.two_passes);
        for (index, clips) in passes.iter().enumerate() {
            let clips = (self.clips)(clips.clone())?;
            let exchange = begin(false, index);
            if once {
                let (pass, batch) = BackbonePass::new(backbone, clips, keep, exchange);
                features.push(pass.features());
                statistics.append(batch);
                whole = Some(pass);
            } else {
                let (chunk, batch) = features_only(backbone, clips, exchange);
                features.push(chunk);
                statistics.append(batch);
            }
        }
        let features = Tensor::cat(features, 0);
        let features = if trains { features.require_grad() } else { features };
        let views = ViewLayout::new(batch.view_counts[part.actions.clone()].to_vec());
        let annotated = objective.annotated_in(batch, part.actions.clone());
        let masks = masks.map(|masks| masks.of(part.actions.clone()));
        let prediction = net.classify(features.clone(), &views, &annotated, masks.as_ref());
        let cost = objective.cost_of(&prediction, batch, part.actions);
        let scaled = match self.loss_scale {
            1.0 => cost.total.clone(),
            scale => cost.total.clone().mul_scalar(scale),
        };
        let mut grads = scaled.backward();
        let grad_features = features.grad_remove(&mut grads);
        sum.accumulate(net, GradientsParams::from_grads(grads, net));
        let Some(grad_features) = grad_features else {
            return Ok((cost, prediction));
        };
        if let Some(pass) = whole {
            if let Some(sink) = sink {
                let heads = std::mem::replace(sum, GradientsAccumulator::new()).grads();
                sink.add(STAGES.len(), heads);
                pass.backward(backbone, grad_features, |stage, grads| sink.add(stage, grads));
            } else {
                pass.backward(backbone, grad_features, |_, grads| sum.accumulate(net, grads));
            }
            return Ok((cost, prediction));
        }
        for (index, clips) in passes.into_iter().enumerate() {
            let rows = clips.start - part.clips.start..clips.end - part.clips.start;
            // The batch statistics of these clips were collected in the first pass.
            let clips = (self.clips)(clips)?;
            let exchange = begin(true, index);
            let keep = if gradient_checkpointing { Keep::Inputs } else { Keep::All };
            let (pass, _) = BackbonePass::new(backbone, clips, keep, exchange);
            let gradient = grad_features.clone().slice([rows]);
            pass.backward(backbone, gradient, |_, grads| sum.accumulate(net, grads));
        }
        Ok((cost, prediction))
    }
}

impl Attempt {
    /// Waits for a queued step.
    pub(super) fn finish(
        queued: Result<Queued, TrainError>,
        watch: &mut MemoryWatch,
    ) -> Result<Self, TrainError> {
        match queued.and_then(|queued| queued.finish(watch)) {
            Ok(gradients) => Ok(Self::Done(gradients)),
            Err(error) if error.is_out_of_memory() => Ok(Self::OutOfMemory),
            Err(error) => Err(error),
        }
    }
}

impl Queued {
    /// Takes the gradients out of the step.
    pub(super) fn take_gradients(&mut self) -> GradientsParams {
        std::mem::take(&mut self.grads)
    }

    /// Waits for the step.
    pub(super) fn finish(self, watch: &mut MemoryWatch) -> Result<Gradients, TrainError> {
        let losses = Cost::read_sum(&self.costs);
        if watch.out_of_memory() {
            return Err(TrainError::OutOfMemory);
        }
        let losses = losses?;
        watch.intact()?;
        let tasks = self.logits.first().map_or(0, Vec::len);
        let logits = (0..tasks).map(|task| {
            Tensor::cat(self.logits.iter().map(|part| part[task].clone()).collect(), 0)
        });
        let logits = logits.collect();
        let auxiliary = (0..losses.auxiliary.len()).map(|head| known(&self.costs, head)).collect();
        let result = BatchResult { losses, logits, auxiliary };
        Ok(Gradients { grads: self.grads, statistics: self.statistics, result })
    }
}

/// Joins the logits and known labels of an auxiliary head from all parts.
fn known(costs: &[Cost], head: usize) -> Option<KnownLogits> {
    let known = || costs.iter().filter_map(|cost| cost.auxiliary[head].as_ref());
    let logits: Vec<Tensor<2>> = known().map(|known| known.logits.clone()).collect();
    let labels = known().flat_map(|known| known.labels.iter().copied()).collect();
    (!logits.is_empty()).then(|| KnownLogits { logits: Tensor::cat(logits, 0), labels })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
mod tests;
