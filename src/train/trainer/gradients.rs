//! Computes the gradients of a batch and uploads its clips.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::{TrainPass, Trainer};
use crate::data::Batch;
use crate::model::DropoutMasks;
use crate::train::error::TrainError;
use crate::train::lanes::{FirstClips, Lanes, training_clips};
use crate::train::loss_scale::LossScale;
use crate::train::optimizer::{first_not_finite, global_norm};
use crate::train::step::{Attempt, Clips, Gradients, Step, first_pass};

/// A batch whose first clips are being uploaded to the device.
pub(super) struct Uploaded {
    pub batch: Arc<Batch>,
    pub step: usize,
    /// Number of batches that the loader has handed out or skipped, including this one.
    pub taken: usize,
    pub first: FirstClips,
}

impl Trainer<'_> {
    pub(super) fn next_batch(&self, pass: &mut TrainPass) -> Result<Option<Uploaded>, TrainError> {
        if let Some(uploaded) = pass.next.take() {
            return Ok(Some(uploaded));
        }
        match self.wait_for(&mut pass.metrics, &mut pass.loader)? {
            Some(batch) => self.upload(batch, self.steps, pass.loader.taken()).map(Some),
            None => {
                // The remaining batches were unreadable; they count as done.
                pass.metrics.done(pass.loader.taken());
                Ok(None)
            }
        }
    }

    fn upload(&self, mut batch: Batch, step: usize, taken: usize) -> Result<Uploaded, TrainError> {
        batch.mix = self.mixing.as_ref().and_then(|mixing| mixing.draw(&batch, step));
        let mut own = self.lanes.as_ref().map_or(0..1, Lanes::own);
        let first = own.find_map(|lane| batch.lanes.get(lane).filter(|lane| !lane.is_empty()));
        let first = match first {
            Some(actions) => {
                let range = first_pass(&batch, actions, self.memory.micro_batch);
                Some((range.clone(), self.clips(&batch, range, step)?))
            }
            None => None,
        };
        Ok(Uploaded { batch: batch.into(), step, taken, first: RefCell::new(first) })
    }

    /// Returns some clips of a batch, augmented and normalised for the network.
    pub(super) fn clips(
        &self,
        batch: &Batch,
        range: Range<usize>,
        step: usize,
    ) -> Result<Tensor<5>, TrainError> {
        training_clips(self.augmenter.as_ref(), batch, range, self.epoch, step, &self.device)
    }

    /// Computes the gradients of a batch. Meanwhile uploads the next batch if it has been read
    /// already. Repeats a batch that does not fit in memory with half the micro-batch.
    pub(super) fn gradients(
        &mut self,
        uploaded: &Uploaded,
        pass: &mut TrainPass,
    ) -> Result<Gradients, TrainError> {
        self.sync_weights()?;
        loop {
            let attempt = match self.lanes {
                None => self.attempt_in_one_lane(uploaded, pass)?,
                Some(_) => self.attempt_in_lanes(uploaded, pass)?,
            };
            match attempt {
                Attempt::Done(gradients) => return Ok(gradients),
                Attempt::OutOfMemory => {
                    // The next batch is uploaded again, in the smaller micro-batch.
                    if let Some(next) = &pass.next {
                        next.first.take();
                    }
                    self.memory.shrink(largest_lane(&uploaded.batch), &mut pass.watch)?;
                }
            }
        }
    }

    /// Returns the norm of a step's unscaled gradients and the loss scale. `None` if the gradients overflowed
    /// f16: the step must be left out, and the loss scale has been halved. `step` is the number of the step
    /// in its epoch, from 1.
    pub(super) fn finite_norm(
        &mut self,
        gradients: &Gradients,
        batch: &Batch,
        step: usize,
    ) -> Result<Option<[f64; 2]>, TrainError> {
        let Gradients { grads, result, .. } = gradients;
        let (epoch, half) = (self.epoch, self.loss_scale.is_some());
        let not_finite = |what: String, value: f64| {
            let actions = batch.actions.join(", ");
            TrainError::NotFinite { what, value, epoch, step, actions, half }
        };
        if !result.losses.total.is_finite() {
            return Err(not_finite("the loss".to_owned(), result.losses.total));
        }
        let loss_scale = self.loss_factor();
        let norm = global_norm(self.net(), grads)? / loss_scale;
        if norm.is_finite() {
            return Ok(Some([norm, loss_scale]));
        }
        if self.loss_scale.as_mut().is_some_and(LossScale::overflowed) {
            log::info!(
                "epoch {epoch} step {step}: gradients overflowed f16: step skipped, loss scale \
                 halved to {}",
                loss_scale / 2.0
            );
            return Ok(None);
        }
        let parameter = first_not_finite(self.net(), grads)?;
        let first = parameter.map_or_else(String::new, |name| format!(" (first in `{name}`)"));
        let smallest = if half { ", with a loss scale of 1," } else { "" };
        Err(not_finite(format!("the gradient norm{first}{smallest}"), norm))
    }

    /// Attempts to compute the gradients on this device, as one lane.
    fn attempt_in_one_lane(
        &self,
        uploaded: &Uploaded,
        pass: &mut TrainPass,
    ) -> Result<Attempt, TrainError> {
        let batch: &Batch = &uploaded.batch;
        let masks =
            DropoutMasks::new(self.seed, uploaded.step as u64, &batch.actions, &batch.earlier);
        let clips = |range| match uploaded.first.take() {
            // Taken, not cloned, so that they are freed as soon as the step no longer needs them.
            Some((first, clips)) if first == range => Ok(clips),
            _ => self.clips(batch, range, uploaded.step),
        };
        let queued = self.step(batch, &clips).queue(Some(&masks));
        self.upload_next(uploaded, pass)?;
        Attempt::finish(queued, &mut pass.watch)
    }

    /// Returns the step that computes a whole batch as one lane.
    pub(super) fn step<'b>(&'b self, batch: &'b Batch, clips: &'b Clips<'b>) -> Step<'b> {
        Step {
            net: self.net(),
            objective: &self.objective,
            batch,
            actions: 0..batch.actions.len(),
            clips,
            memory: self.memory,
            loss_scale: self.loss_factor(),
            lane_sync: None,
            gradient_sink: None,
        }
    }

    /// Returns the loss scale; 1 in f32.
    pub(super) fn loss_factor(&self) -> f64 {
        self.loss_scale.map_or(1.0, |scale| scale.factor())
    }

    /// Uploads the batch after this one if it has already been read.
    pub(super) fn upload_next(
        &self,
        uploaded: &Uploaded,
        pass: &mut TrainPass,
    ) -> Result<(), TrainError> {
        // Completing a batch is collective: other ranks may not have read their share yet.
        let alone = !self.lanes.as_ref().is_some_and(Lanes::has_remote);
        if alone
            && pass.next.is_none()
            && let Some(next) = pass.loader.ready()?
        {
            pass.next = Some(self.upload(next, uploaded.step + 1, pass.loader.taken())?);
        }
        Ok(())
    }
}

/// Returns the number of clips in the largest lane.
pub(super) fn largest_lane(batch: &Batch) -> usize {
    batch.lanes.iter().map(|lane| batch.clips_of(lane).len()).max().unwrap_or(0)
}
