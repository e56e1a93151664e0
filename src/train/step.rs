//! One training step's gradients, the batch cut into as many parts as memory asks for.
//!
//! A part holds whole actions where it can, and its gradients are added to those of the parts
//! before it. An action with more clips than may pass at once is looked at twice: its clips' features
//! come first, some clips at a time and without a graph; the loss's gradient by the features
//! then leads back through the clips, which pass once more. Either way the loss is the whole batch's,
//! exactly. What differs from a step in one piece: batch normalisation sees the clips of one pass, as it does
//! wherever gradients are accumulated.

use std::ops::Range;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorReadError};

use super::objective::{Cost, Losses};
use super::{Objective, TrainError};
use crate::data::Batch;
use crate::device;
use crate::model::statistics::{self, HeldStatistics};
use crate::model::{BackbonePass, DropoutRng, MultiViewNet, Prediction, ViewLayout, features_only};

/// How much of a batch is in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMemory {
    /// Clips that pass through the backbone at once.
    pub micro_batch: usize,
    /// Keep little of the backbone's work and do it again on the way back.
    pub gradient_checkpointing: bool,
}

impl Default for StepMemory {
    /// Everything at once, nothing twice.
    fn default() -> Self {
        Self { micro_batch: usize::MAX, gradient_checkpointing: false }
    }
}

impl StepMemory {
    /// Makes the micro-batch half of what a batch of `clips` needed; `false` where one clip is all
    /// there is.
    pub(super) fn halve(&mut self, clips: usize) -> bool {
        let now = self.micro_batch.min(clips);
        self.micro_batch = (now / 2).max(1);
        now > 1
    }

    /// Makes room on a device that was out of memory with a batch of `clips`.
    pub(super) fn shrink(&mut self, clips: usize, device: &Device) -> Result<(), TrainError> {
        let before = self.micro_batch.min(clips);
        if !self.halve(clips) {
            return Err(TrainError::OutOfMemory);
        }
        log::warn!(
            "the device is out of memory with {before} clips at once: the step is repeated with \
             {0}, and so are those after it (--micro-batch {0} says so from the start)",
            self.micro_batch
        );
        device.memory_cleanup();
        // What the failed step left behind in the queue has nothing to say any more.
        let _ = device.sync();
        device::out_of_memory(device);
        Ok(())
    }
}

/// Actions whose cost is computed together: consecutive ones of a batch, with their clips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub actions: Range<usize>,
    pub clips: Range<usize>,
}

/// Cuts a batch into parts of whole actions of at most `most` clips; an action of more clips is a
/// part of its own.
pub(super) fn parts(view_counts: &[usize], most: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut clip = 0;
    for (action, &views) in view_counts.iter().enumerate() {
        let clips = clip..clip + views;
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

/// The clips that pass through the backbone first in a step.
pub(super) fn first_pass(view_counts: &[usize], most: usize) -> Range<usize> {
    let first = parts(view_counts, most).into_iter().next();
    first.and_then(|part| chunks(&part.clips, most).into_iter().next()).unwrap_or(0..0)
}

/// Where a step's clips come from: those of a range of the batch's, ready for the network.
pub(super) type Clips<'a> = dyn Fn(Range<usize>) -> Result<Tensor<5>, TrainError> + 'a;

/// A step whose work is queued on the device: nothing of it has been waited for.
pub(super) struct Queued {
    grads: GradientsParams,
    held: HeldStatistics,
    costs: Vec<Cost>,
    logits: Vec<Vec<Tensor<2>>>,
}

/// A step's gradients and what the network said.
pub(super) struct Computed {
    pub grads: GradientsParams,
    pub losses: Losses,
    /// `[B, classes]` per task.
    pub logits: Vec<Tensor<2>>,
    /// Per auxiliary head: logits and classes of the actions whose value is known.
    pub known: Vec<Option<(Tensor<2>, Vec<usize>)>>,
}

/// What a step works with.
pub(super) struct Step<'a> {
    pub net: &'a MultiViewNet,
    pub objective: &'a Objective,
    pub batch: &'a Batch,
    pub clips: &'a Clips<'a>,
    pub memory: StepMemory,
}

impl Step<'_> {
    /// Queues forward and backward passes of the whole batch. `rng` draws the dropout masks;
    /// without it nothing is dropped.
    pub fn queue(&self, mut rng: Option<&mut DropoutRng>) -> Result<Queued, TrainError> {
        let mut sum = GradientsAccumulator::new();
        let (mut costs, mut logits) = (Vec::new(), Vec::new());
        let (done, held) = statistics::hold(|| -> Result<(), TrainError> {
            for part in parts(&self.batch.view_counts, self.memory.micro_batch) {
                let (cost, said) = self.part(part, rng.as_deref_mut(), &mut sum)?;
                costs.push(cost);
                logits.push(said.logits);
            }
            Ok(())
        });
        done?;
        Ok(Queued { grads: sum.grads(), held, costs, logits })
    }

    /// Queues one part's and adds its gradients to `sum`.
    fn part(
        &self,
        part: Part,
        rng: Option<&mut DropoutRng>,
        sum: &mut GradientsAccumulator<MultiViewNet>,
    ) -> Result<(Cost, Prediction), TrainError> {
        let Self { net, objective, batch, .. } = *self;
        let backbone = &net.backbone;
        let StepMemory { micro_batch, gradient_checkpointing } = self.memory;
        let passes = chunks(&part.clips, micro_batch);
        let trains = backbone.lowest_trainable().is_some();
        let mut whole = None;
        let mut features = Vec::new();
        for clips in &passes {
            let clips = (self.clips)(clips.clone())?;
            if passes.len() == 1 {
                let pass = BackbonePass::new(backbone, clips, gradient_checkpointing);
                features.push(pass.features());
                whole = Some(pass);
            } else {
                features.push(features_only(backbone, clips));
            }
        }
        let features = Tensor::cat(features, 0);
        let features = if trains { features.require_grad() } else { features };
        let views = ViewLayout::new(batch.view_counts[part.actions.clone()].to_vec());
        let annotated = objective.annotated_of(batch, part.actions.clone());
        let said = net.classify(features.clone(), &views, &annotated, rng);
        let cost = objective.cost_of(&said, batch, part.actions);
        let mut grads = cost.total.backward();
        let by_features = features.grad_remove(&mut grads);
        sum.accumulate(net, GradientsParams::from_grads(grads, net));
        let Some(by_features) = by_features else {
            return Ok((cost, said));
        };
        if let Some(pass) = whole {
            sum.accumulate(net, pass.backward(backbone, by_features));
            return Ok((cost, said));
        }
        for clips in passes {
            let rows = clips.start - part.clips.start..clips.end - part.clips.start;
            let pass = statistics::ignore(|| -> Result<_, TrainError> {
                let clips = (self.clips)(clips)?;
                Ok(BackbonePass::new(backbone, clips, gradient_checkpointing))
            })?;
            sum.accumulate(net, pass.backward(backbone, by_features.clone().slice([rows])));
        }
        Ok((cost, said))
    }
}

/// Cuts a range into pieces of at most `most`, as even as they can be: batch normalisation should
/// not meet a last piece of a single clip without need.
pub(super) fn chunks(clips: &Range<usize>, most: usize) -> Vec<Range<usize>> {
    let count = clips.len().div_ceil(most.max(1)).max(1);
    let cut = |piece: usize| clips.start + clips.len() * piece / count;
    (0..count).map(|piece| cut(piece)..cut(piece + 1)).collect()
}

impl Queued {
    /// Waits for the step. Only now do running statistics move, so that a step which the device
    /// could not do has left no trace.
    pub fn finish(self, device: &Device) -> Result<Computed, TrainError> {
        let losses = Cost::read_sum(&self.costs);
        if device::out_of_memory(device) {
            return Err(TrainError::OutOfMemory);
        }
        let losses = losses?;
        self.held.apply();
        let mut parts = self.logits.into_iter();
        let mut logits: Vec<Vec<Tensor<2>>> =
            parts.next().unwrap_or_default().into_iter().map(|first| vec![first]).collect();
        for part in parts {
            for (all, logits) in logits.iter_mut().zip(part) {
                all.push(logits);
            }
        }
        let heads = losses.auxiliary.len();
        let mut known: Vec<Option<(Vec<Tensor<2>>, Vec<usize>)>> = vec![None; heads];
        for cost in self.costs {
            for (all, part) in known.iter_mut().zip(cost.auxiliary) {
                if let Some(part) = part {
                    let (logits, targets) = all.get_or_insert_default();
                    logits.push(part.logits);
                    targets.extend(part.targets);
                }
            }
        }
        let join = |logits: Vec<Tensor<2>>| Tensor::cat(logits, 0);
        Ok(Computed {
            grads: self.grads,
            losses,
            logits: logits.into_iter().map(join).collect(),
            known: known
                .into_iter()
                .map(|known| known.map(|(logits, targets)| (join(logits), targets)))
                .collect(),
        })
    }
}

/// Whether an error says that the device's memory is full.
pub(super) fn is_out_of_memory(error: &TrainError) -> bool {
    match error {
        TrainError::OutOfMemory => true,
        TrainError::Compute(error) => says_out_of_memory(error),
        _ => false,
    }
}

/// The backends have no common type for it, but common words.
fn says_out_of_memory(error: &TensorReadError) -> bool {
    let words = error.to_string().to_lowercase();
    ["out of memory", "out of device memory", "out-of-memory", "can't allocate buffer"]
        .iter()
        .any(|phrase| words.contains(phrase))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
mod tests;
