//! Steps on several devices. A batch is cut into *lanes* ([`Plan`](crate::data::Plan)): each is a
//! separate forward and backward pass with its own batch statistics, on one of the devices. The
//! lanes' gradients are added on the host in a fixed order ([`tree`]), their statistics are applied
//! in the order of the lanes, and the trainer's device performs the update and distributes the
//! weights. The result depends only on the number of lanes, not on the number of devices.
//!
//! A step with one lane does none of this.

mod clock;
mod gathering;
mod gradients;
mod groups;
mod job;
mod ranks;
mod reader;
mod result;
mod sync_norm;
mod together;
mod tree;
mod weights;
mod worker;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::error::TrainError;
use crate::cluster::Cluster;
use crate::config::Auto;
use crate::data::Batch;
use crate::model::{ModelConfig, MultiViewNet};
use crate::report::SlowestRank;
use clock::Clock;
use gathering::Gathering;
use groups::Layout;
use ranks::Ranks;
use weights::Weights;
use worker::Worker;

pub(super) use gradients::HostGradients;
pub(super) use job::{FirstClips, LaneJob, Replica, Work, training_clips};
pub(super) use result::{Joined, LaneResult, join, prediction};
pub(super) use sync_norm::SyncNorm;

/// The lanes of a trainer's steps and the devices that compute them.
#[derive(Debug)]
pub struct Lanes {
    count: usize,
    /// Lanes of each device of this process: the trainer's, then the workers'.
    shares: Vec<Range<usize>>,
    workers: Vec<Worker>,
    ranks: Option<Ranks>,
    /// Whether batch norm uses the statistics of all lanes.
    sync_norm: bool,
    changed: Changed,
    clock: Clock,
}

/// Which weights of the trainer's network have changed since its copies were last synchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Nothing,
    /// Only the trainable parameters and the running statistics.
    Trained,
    Everything,
}

/// Returns the number of lanes of a run on `devices` devices: as requested; otherwise as in the
/// checkpointed run, so that it continues bit for bit; otherwise one per device.
///
/// # Errors
/// More lanes than a batch has actions, more devices than lanes.
pub(super) fn count(
    requested: Auto,
    devices: usize,
    saved: Option<usize>,
    actions: usize,
) -> Result<usize, TrainError> {
    let lanes = match (requested, saved) {
        // The configuration that a run writes fixes its number of lanes; resumed with it on more
        // devices, the run uses more lanes.
        (Auto::Number(lanes), Some(saved)) if lanes == saved && saved < devices => devices,
        (Auto::Number(lanes), _) => lanes,
        (Auto::Auto, Some(saved)) if saved >= devices => saved,
        (Auto::Auto, _) => devices,
    };
    if let Some(saved) = saved.filter(|saved| *saved != lanes) {
        log::warn!(
            "the resumed run has {lanes} lanes, the checkpoint's had {saved}: batch norm sees different \
             shares of a batch, so the results will not match an uninterrupted run"
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

/// The lanes of each batch that a process computes.
pub(super) struct LaneShare {
    /// Number of lanes of a batch.
    pub count: usize,
    pub own: Range<usize>,
}

/// Divides the lanes among `devices` devices as evenly as possible; each gets consecutive lanes.
fn shares(lanes: usize, devices: usize) -> Vec<Range<usize>> {
    let cut = |device: usize| lanes * device / devices;
    (0..devices).map(|device| cut(device)..cut(device + 1)).collect()
}

impl Lanes {
    /// Creates `count` lanes on the trainer's own device and on `others`, each of which gets a copy of
    /// the network that `model` describes; `half` stores activations in half precision. Consecutive
    /// lanes share a device.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn new(
        count: usize,
        model: &ModelConfig,
        half: bool,
        others: &[Device],
    ) -> Result<Self, TrainError> {
        let workers = others.iter().map(|device| Worker::start(device, model.clone(), half));
        let workers = workers.collect::<Result<_, _>>()?;
        let shares = shares(count, others.len() + 1);
        Ok(Self {
            count,
            shares,
            workers,
            ranks: None,
            sync_norm: false,
            changed: Changed::Everything,
            clock: Clock::default(),
        })
    }

    /// Shares the lanes with the ranks of a cluster; `devices` is the number of devices of each rank.
    /// `alike` is whether all ranks compute with the same hardware and kernels.
    #[must_use]
    pub fn across(self, cluster: Rc<Cluster>, devices: &[usize], alike: bool) -> Self {
        let mut all = shares(self.count, devices.iter().sum()).into_iter();
        let mut ranks = Vec::new();
        let mut own = Vec::new();
        for (rank, count) in devices.iter().enumerate() {
            let shares: Vec<_> = all.by_ref().take(*count).collect();
            let whole = shares.first().zip(shares.last()).map(|(a, b)| a.start..b.end);
            ranks.push(whole.expect("a rank has a device"));
            if rank == cluster.rank() {
                own = shares;
            }
        }
        Self { shares: own, ranks: Some(Ranks::new(cluster, ranks, alike)), ..self }
    }

    /// Sets whether batch norm uses the statistics of all lanes (`sync`) or of each lane separately.
    #[must_use]
    pub fn with_sync_batch_norm(self, sync: bool) -> Self {
        Self { sync_norm: sync, ..self }
    }

    /// Returns the number of lanes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the lanes of the trainer's own device.
    pub(super) fn own(&self) -> Range<usize> {
        self.shares[0].clone()
    }

    /// Returns the lanes of this process.
    fn local(&self) -> Range<usize> {
        self.shares[0].start..self.shares.last().map_or(0, |share| share.end)
    }

    /// Returns which lanes of each batch this process computes.
    pub(super) fn share(&self) -> LaneShare {
        LaneShare { count: self.count, own: self.local() }
    }

    /// Returns whether other processes compute some of the lanes.
    pub(super) fn has_remote(&self) -> bool {
        self.ranks.is_some()
    }

    /// Returns whether the ranks have agreed to stop the run; `None` without other ranks.
    pub(super) fn stopped(&self) -> Option<bool> {
        self.ranks.as_ref().map(Ranks::stopped)
    }

    /// Completes a batch of which this process has read its share.
    pub(super) fn complete(&self, batch: Batch) -> Result<Batch, TrainError> {
        match &self.ranks {
            Some(ranks) => self.clock.exchange(|| ranks.complete(batch)),
            None => Ok(batch),
        }
    }

    /// Resets the clock at the beginning of a pass.
    pub(super) fn restart_clock(&self) {
        self.clock.restart();
    }

    /// Returns the time spent on exchange in this pass, including waiting for slower devices.
    pub(super) fn exchanged(&self) -> Duration {
        self.clock.exchanged()
    }

    /// Returns the rank with the longest compute time in this pass, and by how much it exceeds the mean.
    pub(super) fn slowest(&self) -> Option<SlowestRank> {
        let (rank, longer) = self.clock.slowest()?;
        let host = self.ranks.as_ref()?.cluster.hosts()[rank].clone();
        Some(SlowestRank { rank, host, longer })
    }

    /// Records that an update has changed the trained weights.
    pub(super) fn mark_updated(&mut self) {
        if self.changed == Changed::Nothing {
            self.changed = Changed::Trained;
        }
    }

    /// Records that the network was replaced or that other stages are trainable now.
    pub(super) fn mark_replaced(&mut self) {
        self.changed = Changed::Everything;
    }

    /// Synchronises the weights before a job. Returns the network with the weights that all ranks
    /// use: its own, or the lead's if ranks do not compute alike. Workers receive them too.
    pub(super) fn sync_weights(&mut self, net: MultiViewNet) -> Result<MultiViewNet, TrainError> {
        let changed = std::mem::replace(&mut self.changed, Changed::Nothing);
        let everything = changed == Changed::Everything;
        let sends = self.ranks.as_ref().is_some_and(|ranks| !ranks.alike);
        let compares = everything && self.ranks.is_some();
        if changed == Changed::Nothing || (self.workers.is_empty() && !sends && !compares) {
            return Ok(net);
        }
        self.clock.exchange(|| self.distribute(net, everything))
    }

    fn distribute(
        &self,
        mut net: MultiViewNet,
        everything: bool,
    ) -> Result<MultiViewNet, TrainError> {
        let mut weights = Weights::read(&net, everything)?;
        if let Some(ranks) = &self.ranks {
            if !ranks.alike {
                weights = weights.broadcast(&ranks.cluster);
                if !ranks.cluster.is_lead() {
                    net = weights.load(net);
                }
            } else if everything {
                ranks.compare(&weights)?;
            }
        }
        let weights = Arc::new(weights);
        for worker in &self.workers {
            worker.load(Arc::clone(&weights))?;
        }
        Ok(net)
    }

    /// Returns the exchange of batch statistics for a training step on this batch; `None` without
    /// synchronised batch norm.
    pub(super) fn sync_norm(&self, batch: &Batch) -> Option<Arc<SyncNorm>> {
        let local = self.local();
        let computes = local.clone().map(|lane| !batch.lanes[lane].is_empty());
        self.sync_norm.then(|| Arc::new(SyncNorm::new(local.start, computes)))
    }

    /// Serves the exchange of batch statistics until all lanes have finished. Returns the time spent
    /// waiting for other ranks.
    pub(super) fn serve(&self, job: &LaneJob) -> Result<Duration, TrainError> {
        let Some(all) = &job.sync_norm else {
            return Ok(Duration::ZERO);
        };
        let waited = all.serve(self.ranks.as_ref().map(|ranks| ranks.cluster.as_ref()))?;
        self.clock.add_exchange(waited);
        Ok(waited)
    }

    /// Returns the gathering of gradients for a training step on this batch.
    pub(super) fn gathering(&self, batch: &Batch, net: &MultiViewNet) -> Arc<Gathering> {
        let computes = |lane: usize| !batch.lanes[lane].is_empty();
        Gathering::new(Layout::of(net), self.local(), computes).into()
    }

    /// Sums the gradients of all lanes, group by group as they arrive. Returns `None`, on all
    /// ranks, if a lane has failed. Also returns the time at which the gradients of this process
    /// were complete.
    pub(super) fn gather(
        &self,
        gathering: &Gathering,
    ) -> Result<(Option<HostGradients>, Instant), TrainError> {
        let layout = &gathering.layout;
        let mut all = HostGradients(vec![None; layout.sizes.len()]);
        for (number, group) in layout.groups.iter().enumerate() {
            let own = gathering.take(number);
            let total = match &self.ranks {
                Some(ranks) => ranks.total(own, &layout.sizes_of(group))?,
                None => own.map(|own| HostGradients::sum(own, 0..self.count)),
            };
            let Some(total) = total else {
                return Ok((None, Instant::now()));
            };
            for (parameter, gradient) in group.parameters.iter().zip(total.0) {
                all.0[*parameter] = gradient;
            }
        }
        let complete = gathering.complete();
        // Earlier exchange overlapped with computation.
        self.clock.add_exchange(complete.elapsed());
        Ok((Some(all), complete))
    }

    /// Starts a job on the workers.
    pub(super) fn start(&self, job: &Arc<LaneJob>) -> Result<(), TrainError> {
        for (worker, lanes) in self.workers.iter().zip(&self.shares[1..]) {
            worker.compute(Arc::clone(job), lanes.clone())?;
        }
        Ok(())
    }

    /// Collects the results of all lanes. `own` are those of the trainer's device and `busy` is this
    /// rank's compute time; `stop` asks all ranks to stop.
    ///
    /// # Errors
    /// The error of the first device that failed; [`TrainError::OutOfMemory`] only if no device
    /// failed for another reason, and then on all ranks.
    pub(super) fn collect(
        &self,
        own: Result<Vec<LaneResult>, TrainError>,
        stop: bool,
        busy: Duration,
    ) -> Result<Vec<LaneResult>, TrainError> {
        self.clock.exchange(|| {
            // Wait for all workers, even after an error: none may still be working on this job when the
            // next one begins.
            let others = self.workers.iter().map(Worker::result);
            let all: Vec<_> = std::iter::once(own).chain(others).collect();
            let (mut lanes, mut starved) = (Vec::new(), false);
            for result in all {
                match result {
                    Ok(results) => lanes.extend(results),
                    Err(error) if error.is_out_of_memory() => starved = true,
                    Err(error) => return Err(error),
                }
            }
            let own = if starved { Err(TrainError::OutOfMemory) } else { Ok(lanes) };
            if let Some(ranks) = &self.ranks {
                let (lanes, busy) = ranks.join(own, stop, busy.as_secs_f64())?;
                self.clock.add_busy(&busy);
                return Ok(lanes);
            }
            own
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_can_use_more_devices() {
        // The number of lanes is the one that a run on two devices writes to its configuration.
        let resumed = |devices: usize| count(Auto::Number(2), devices, Some(2), 6);
        assert!(matches!((resumed(1), resumed(2), resumed(4)), (Ok(2), Ok(2), Ok(4))));
        // A number chosen by the user is not replaced.
        assert!(matches!(
            count(Auto::Number(3), 4, Some(2), 6),
            Err(TrainError::FewLanes { devices: 4, lanes: 3 })
        ));
        assert!(matches!(count(Auto::Number(2), 4, None, 6), Err(TrainError::FewLanes { .. })));
    }
}
