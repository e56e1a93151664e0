//! Training and validation steps that are computed in several lanes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::gradients::Uploaded;
use super::{TrainPass, Trainer};
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::device::MemoryWatch;
use crate::model::{DropoutMasks, MultiViewNet, Prediction};
use crate::train::error::TrainError;
use crate::train::lanes::{
    self, FirstClips, HostGradients, Joined, LaneJob, Lanes, Replica, SyncNorm, Work,
};
use crate::train::metrics::PassMetrics;
use crate::train::objective::BatchResult;
use crate::train::run_schedule::Rates;
use crate::train::step::Attempt;

impl Trainer<'_> {
    /// Waits for the next batch with at least one readable action, and completes it with the shares of
    /// the other ranks.
    pub(super) fn wait_for(
        &self,
        metrics: &mut PassMetrics,
        loader: &mut Loader,
    ) -> Result<Option<Batch>, TrainError> {
        while let Some(batch) = metrics.wait_for(loader)? {
            let batch = match &self.lanes {
                Some(lanes) => lanes.complete(batch)?,
                None => batch,
            };
            if !batch.actions.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    pub(super) fn restart_clock(&self) {
        if let Some(lanes) = &self.lanes {
            lanes.restart_clock();
        }
    }

    /// Returns the time that this pass has spent on exchange; `None` without lanes.
    pub(super) fn exchanged(&self) -> Option<Duration> {
        self.lanes.as_ref().map(Lanes::exchanged)
    }

    /// Synchronises the weights of all copies of the network.
    pub(super) fn sync_weights(&mut self) -> Result<(), TrainError> {
        if let Some(lanes) = &mut self.lanes {
            let net = self.net.take().expect("the network is only absent during an update");
            self.net = Some(lanes.sync_weights(net)?);
        }
        Ok(())
    }

    /// Attempts to compute a batch's gradients on all devices.
    pub(super) fn attempt_in_lanes(
        &self,
        uploaded: &Uploaded,
        pass: &mut TrainPass,
    ) -> Result<Attempt, TrainError> {
        let sync_norm = self.lanes.as_ref().and_then(|lanes| lanes.sync_norm(&uploaded.batch));
        let job = self.job(&uploaded.batch, self.training(uploaded.step), sync_norm);
        let watch = pass.watch.clone();
        let mut queued = |trainer: &Self| trainer.upload_next(uploaded, pass);
        let lanes = self.compute(&job, None, &uploaded.first, &watch, &mut queued);
        match lanes {
            Ok(lanes) => Ok(Attempt::Done(lanes::join(lanes, self.net(), &self.device))),
            Err(error) if error.is_out_of_memory() => Ok(Attempt::OutOfMemory),
            Err(error) => Err(error),
        }
    }

    /// Performs a training step on a batch in memory without adding it to any metrics. Returns the time
    /// spent on exchange.
    ///
    /// # Errors
    /// A loss that is not finite, a device that fails or is out of memory.
    pub(crate) fn step_on(
        &mut self,
        batch: &Arc<Batch>,
        rates: Rates,
    ) -> Result<Duration, TrainError> {
        self.restart_clock();
        self.sync_weights()?;
        let step = self.steps;
        let attempt = match &self.lanes {
            None => {
                let masks =
                    DropoutMasks::new(self.seed, step as u64, &batch.actions, &batch.earlier);
                let clips = |range| self.clips(batch, range, step);
                let mut watch = MemoryWatch::start(&self.device);
                Attempt::finish(self.step(batch, &clips).queue(Some(&masks)), &mut watch)?
            }
            Some(lanes) => {
                let job = self.job(batch, self.training(step), lanes.sync_norm(batch));
                let watch = MemoryWatch::start(&self.device);
                let first = FirstClips::default();
                let all = self.compute(&job, None, &first, &watch, &mut |_| Ok(()))?;
                Attempt::Done(lanes::join(all, self.net(), &self.device))
            }
        };
        let Attempt::Done(gradients) = attempt else {
            return Err(TrainError::OutOfMemory);
        };
        if let Some(norm_and_scale) = self.finite_norm(&gradients, batch, step + 1)? {
            gradients.statistics.apply();
            self.update(gradients.grads, norm_and_scale, &rates);
        }
        self.steps += 1;
        self.device.sync()?;
        Ok(self.exchanged().unwrap_or_default())
    }

    /// Returns the work that the lanes of a training step perform.
    fn training(&self, step: usize) -> Work {
        let (augmenter, loss_scale) = (self.augmenter.clone(), self.loss_factor());
        Work::Train { augmenter, seed: self.seed, epoch: self.epoch, step, loss_scale }
    }

    /// Computes all lanes and returns their results. This device computes its lanes with `net`, by
    /// default the network being trained, and calls `queued` while the device is busy. `watch` must also
    /// have covered the upload of the first clips: if this device ran out of memory, all ranks have to
    /// know.
    fn compute(
        &self,
        job: &Arc<LaneJob>,
        net: Option<&MultiViewNet>,
        first: &FirstClips,
        watch: &MemoryWatch,
        queued: &mut dyn FnMut(&Self) -> Result<(), TrainError>,
    ) -> Result<Joined, TrainError> {
        let lanes = self.lanes.as_ref().expect("only a trainer with lanes computes in lanes");
        if let Err(error) = lanes.start(job) {
            // Lanes that have already started must not wait for the others.
            job.sync_norm.iter().for_each(|all| all.abort());
            return Err(error);
        }
        let replica = Replica { net: net.unwrap_or(self.net()), device: &self.device };
        let (began, mut waited, mut sum) = (Instant::now(), Duration::ZERO, None);
        let gather = || match &job.gathering {
            Some(gathering) => lanes.gather(gathering),
            None => Ok((Some(HostGradients::default()), Instant::now())),
        };
        let own = job.run(replica, lanes.own(), first, &mut || {
            let queued = queued(self);
            // Serve even after an error: lanes wait for it, on other devices too.
            waited = lanes.serve(job)?;
            sum = Some(gather()?);
            queued
        });
        let own = match own {
            Ok(_) if watch.out_of_memory() => Err(TrainError::OutOfMemory),
            Ok(own) => watch.intact().map(|()| own).map_err(TrainError::Execution),
            failed => failed,
        };
        // If this rank's first lanes failed before the gathering, other ranks still wait for it.
        let (sum, complete) = match (sum, &own) {
            (Some(sum), _) => sum,
            (None, Err(TrainError::Cluster(_))) => (None, Instant::now()),
            (None, _) => gather()?,
        };
        let busy = match job.gathering {
            Some(_) => complete.saturating_duration_since(began),
            None => began.elapsed(),
        };
        let stop = self.stop.load(Ordering::Relaxed);
        let lanes = lanes.collect(own, stop, busy.saturating_sub(waited))?;
        let gradients = sum.expect("the sum is only missing if a lane has failed");
        Ok(Joined { lanes, gradients })
    }

    fn job(
        &self,
        batch: &Arc<Batch>,
        work: Work,
        sync_norm: Option<Arc<SyncNorm>>,
    ) -> Arc<LaneJob> {
        let (batch, objective) = (Arc::clone(batch), Arc::clone(&self.objective));
        let lanes = self.lanes.as_ref().filter(|_| !matches!(work, Work::Validate));
        let gathering = lanes.map(|lanes| lanes.gathering(&batch, self.net()));
        Arc::new(LaneJob { batch, objective, memory: self.memory, work, gathering, sync_norm })
    }

    /// Evaluates a batch on all devices and returns its losses and logits; `None` if one of them was
    /// out of memory.
    pub(super) fn evaluate_in_lanes(
        &self,
        net: &MultiViewNet,
        batch: &Arc<Batch>,
        watch: &MemoryWatch,
        inspect: &mut dyn FnMut(&Batch, &Prediction) -> Result<(), TrainError>,
    ) -> Result<Option<BatchResult>, TrainError> {
        let job = self.job(batch, Work::Validate, None);
        match self.compute(&job, Some(net), &FirstClips::default(), watch, &mut |_| Ok(())) {
            Ok(lanes) => {
                let (prediction, result) = lanes::prediction(lanes, &self.device);
                inspect(batch, &prediction)?;
                Ok(Some(result))
            }
            Err(error) if error.is_out_of_memory() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
