//! Steps on several devices. A batch is cut into *lanes* ([`Plan`](crate::data::Plan)): each is a
//! forward and a backward pass of its own, with its own batch statistics, on some device. Their
//! gradients are added on the host in a fixed order ([`tree`]), the statistics are applied in the
//! order of the lanes, and the trainer's device makes the update and hands the weights out. What
//! comes out depends on the number of lanes and on nothing else: not on how many devices there are.
//!
//! A step with one lane does none of this.

mod gradients;
mod job;
mod result;
mod tree;
mod weights;
mod worker;

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Device;

use super::error::TrainError;
use crate::config::Auto;
use crate::model::{ModelConfig, MultiViewNet};
use weights::Weights;
use worker::Worker;

pub(super) use job::{FirstClips, LaneJob, Work, training_clips};
pub(super) use result::{LaneResult, join, prediction};

/// The lanes of a trainer's steps and the devices that compute them.
#[derive(Debug)]
pub struct Lanes {
    count: usize,
    /// The lanes of each device: the trainer's, then the workers'.
    shares: Vec<Range<usize>>,
    workers: Vec<Worker>,
    changed: Changed,
}

/// What the workers do not know of the trainer's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Nothing,
    /// The last update of what is trained.
    Trained,
    Everything,
}

/// The number of lanes of a run on so many devices: what was asked for; else what the checkpointed run
/// had, so that it goes on bit for bit; else one for each device.
///
/// # Errors
/// More lanes than a batch has actions, more devices than lanes.
pub(super) fn count(
    asked: Auto,
    devices: usize,
    saved: Option<usize>,
    actions: usize,
) -> Result<usize, TrainError> {
    let lanes = match (asked, saved) {
        (Auto::Number(lanes), _) => lanes,
        (Auto::Auto, Some(saved)) if saved >= devices => saved,
        (Auto::Auto, _) => devices,
    };
    if let Some(saved) = saved.filter(|saved| *saved != lanes) {
        log::warn!(
            "the resumed run has {lanes} lanes, the checkpoint's had {saved}: batch norm sees other \
             shares of a batch, so it does not go on as the checkpoint's would have"
        );
    }
    if lanes < devices {
        return Err(TrainError::FewLanes { devices, lanes });
    }
    if lanes > actions {
        return Err(TrainError::FewActions { lanes, actions });
    }
    Ok(lanes)
}

impl Lanes {
    /// `count` lanes on a trainer's own device and on others, with copies of the network that
    /// `model` describes; `half` stores activations in half precision. Consecutive lanes share a
    /// device.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn new(
        count: usize,
        model: &ModelConfig,
        half: bool,
        others: &[Device],
    ) -> Result<Self, TrainError> {
        let devices = others.len() + 1;
        let cut = |device: usize| count * device / devices;
        let shares = (0..devices).map(|device| cut(device)..cut(device + 1)).collect();
        let workers = others.iter().map(|device| Worker::start(device, model.clone(), half));
        let workers = workers.collect::<Result<_, _>>()?;
        Ok(Self { count, shares, workers, changed: Changed::Everything })
    }

    /// Number of lanes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The lanes of the trainer's own device.
    pub(super) fn own(&self) -> Range<usize> {
        self.shares[0].clone()
    }

    /// After an update.
    pub(super) fn updated(&mut self) {
        if self.changed == Changed::Nothing {
            self.changed = Changed::Trained;
        }
    }

    /// After a change of what is trained.
    pub(super) fn replaced(&mut self) {
        self.changed = Changed::Everything;
    }

    /// Starts a job on the workers, whose networks become copies of `net` first.
    pub(super) fn start(
        &mut self,
        net: &MultiViewNet,
        job: &Arc<LaneJob>,
    ) -> Result<(), TrainError> {
        if self.workers.is_empty() {
            return Ok(());
        }
        if self.changed != Changed::Nothing {
            let weights = Arc::new(Weights::read(net, self.changed == Changed::Everything)?);
            for worker in &self.workers {
                worker.take(Arc::clone(&weights))?;
            }
            self.changed = Changed::Nothing;
        }
        for (worker, lanes) in self.workers.iter().zip(&self.shares[1..]) {
            worker.compute(Arc::clone(job), lanes.clone())?;
        }
        Ok(())
    }

    /// The results of all lanes, in their order, after the trainer's `own`.
    ///
    /// # Errors
    /// Of the devices that failed, the first one's; [`TrainError::OutOfMemory`] only if none failed
    /// otherwise.
    pub(super) fn collect(
        &self,
        own: Result<Vec<LaneResult>, TrainError>,
    ) -> Result<Vec<LaneResult>, TrainError> {
        // All are waited for, whatever happened to the first: none may still work on this job when
        // the next begins.
        let others = self.workers.iter().map(Worker::result);
        let all: Vec<_> = std::iter::once(own).chain(others).collect();
        let (mut results, mut starved) = (Vec::new(), false);
        for result in all {
            match result {
                Ok(lanes) => results.extend(lanes),
                Err(error) if error.is_out_of_memory() => starved = true,
                Err(error) => return Err(error),
            }
        }
        if starved { Err(TrainError::OutOfMemory) } else { Ok(results) }
    }
}
