//! Steps on several devices. A batch is cut into *lanes* ([`Plan`](crate::data::Plan)): each is a
//! forward and a backward pass of its own, with its own batch statistics, on some device. Their
//! gradients are added on the host in a fixed order ([`tree`]), the statistics are applied in the
//! order of the lanes, and the trainer's device makes the update and hands the weights out. What
//! comes out depends on the number of lanes and on nothing else: not on how many devices there are.
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
    /// The lanes of each device of this process: the trainer's, then the workers'.
    shares: Vec<Range<usize>>,
    workers: Vec<Worker>,
    ranks: Option<Ranks>,
    /// Whether batch norm takes the statistics of all lanes.
    sync_norm: bool,
    changed: Changed,
    clock: Clock,
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
        // A run's own configuration names its lanes: on more devices it goes on with more.
        (Auto::Number(lanes), Some(saved)) if lanes == saved && saved < devices => devices,
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

/// The lanes of each of so many devices: consecutive ones, as evenly as they can be.
fn shares(lanes: usize, devices: usize) -> Vec<Range<usize>> {
    let cut = |device: usize| lanes * device / devices;
    (0..devices).map(|device| cut(device)..cut(device + 1)).collect()
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

    /// Shares them with the ranks of a cluster, of which each has so many devices. `alike` is whether
    /// all of them compute with the same hardware and kernels.
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

    /// With `sync` batch norm takes the statistics of all lanes; without, each lane's are its own.
    #[must_use]
    pub fn with_sync_batch_norm(self, sync: bool) -> Self {
        Self { sync_norm: sync, ..self }
    }

    /// Number of lanes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The lanes of the trainer's own device.
    pub(super) fn own(&self) -> Range<usize> {
        self.shares[0].clone()
    }

    /// The lanes of this process.
    pub(super) fn here(&self) -> Range<usize> {
        self.shares[0].start..self.shares.last().map_or(0, |share| share.end)
    }

    /// Whether other processes compute some of them.
    pub(super) fn are_remote(&self) -> bool {
        self.ranks.is_some()
    }

    /// Whether the run is to stop, as all ranks have agreed; `None` without ranks.
    pub(super) fn stopped(&self) -> Option<bool> {
        self.ranks.as_ref().map(Ranks::stopped)
    }

    /// A whole batch of which this process has read its share.
    pub(super) fn complete(&self, batch: Batch) -> Result<Batch, TrainError> {
        match &self.ranks {
            Some(ranks) => self.clock.exchange(|| ranks.complete(batch)),
            None => Ok(batch),
        }
    }

    /// At the beginning of a pass.
    pub(super) fn restart_clock(&self) {
        self.clock.restart();
    }

    /// Time of the exchange in this pass, waiting for slower devices included.
    pub(super) fn exchanged(&self) -> Duration {
        self.clock.exchanged()
    }

    /// The rank of this pass that computed longest, and how much longer than all in the mean.
    pub(super) fn slowest(&self) -> Option<SlowestRank> {
        let (rank, longer) = self.clock.slowest()?;
        let host = self.ranks.as_ref()?.cluster.hosts()[rank].clone();
        Some(SlowestRank { rank, host, longer })
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

    /// The network with the weights that all ranks use, before a job: its own, or the lead's where ranks
    /// do not compute alike. Workers take them too.
    pub(super) fn agree(&mut self, net: MultiViewNet) -> Result<MultiViewNet, TrainError> {
        let changed = std::mem::replace(&mut self.changed, Changed::Nothing);
        let everything = changed == Changed::Everything;
        let sends = self.ranks.as_ref().is_some_and(|ranks| !ranks.alike);
        let compares = everything && self.ranks.is_some();
        if changed == Changed::Nothing || (self.workers.is_empty() && !sends && !compares) {
            return Ok(net);
        }
        self.clock.exchange(|| self.hand_out(net, everything))
    }

    fn hand_out(
        &self,
        mut net: MultiViewNet,
        everything: bool,
    ) -> Result<MultiViewNet, TrainError> {
        let mut weights = Weights::read(&net, everything)?;
        if let Some(ranks) = &self.ranks {
            if !ranks.alike {
                weights = weights.received(&ranks.cluster);
                if !ranks.cluster.leads() {
                    net = weights.load(net);
                }
            } else if everything {
                ranks.compare(&weights)?;
            }
        }
        let weights = Arc::new(weights);
        for worker in &self.workers {
            worker.take(Arc::clone(&weights))?;
        }
        Ok(net)
    }

    /// The exchange of batch norm's statistics in a training step on this batch.
    pub(super) fn sync_norm(&self, batch: &Batch) -> Option<Arc<SyncNorm>> {
        let here = self.here();
        let computes = here.clone().map(|lane| !batch.lanes[lane].is_empty());
        self.sync_norm.then(|| Arc::new(SyncNorm::new(here.start, computes)))
    }

    /// Serves that exchange, until all lanes have finished. Returns the time that other ranks took.
    pub(super) fn serve(&self, job: &LaneJob) -> Result<Duration, TrainError> {
        let Some(all) = &job.sync_norm else {
            return Ok(Duration::ZERO);
        };
        let waited = all.serve(self.ranks.as_ref().map(|ranks| ranks.cluster.as_ref()))?;
        self.clock.add_exchange(waited);
        Ok(waited)
    }

    /// Where the gradients of a training step on this batch go.
    pub(super) fn gathering(&self, batch: &Batch, net: &MultiViewNet) -> Arc<Gathering> {
        let computes = |lane: usize| !batch.lanes[lane].is_empty();
        Gathering::new(Layout::of(net), self.here(), computes).into()
    }

    /// The sum of all lanes' gradients, group by group as they come; `None`, on all ranks, if a lane has
    /// failed. Also returns when those of this process were complete.
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
        // What went on before was done while a device computed.
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

    /// The results of all lanes after the trainer's `own`, which took so long; `stop` asks all ranks to
    /// stop.
    ///
    /// # Errors
    /// Of the devices that failed, the first one's; [`TrainError::OutOfMemory`] only if none failed
    /// otherwise, and then on all ranks.
    pub(super) fn collect(
        &self,
        own: Result<Vec<LaneResult>, TrainError>,
        stop: bool,
        busy: Duration,
    ) -> Result<Vec<LaneResult>, TrainError> {
        self.clock.exchange(|| {
            // All are waited for, whatever happened to the first: none may still work on this job when
            // the next begins.
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
    fn a_resumed_run_goes_on_with_more_devices() {
        // As in the configuration that a run on two devices writes.
        let resumed = |devices: usize| count(Auto::Number(2), devices, Some(2), 6);
        assert!(matches!((resumed(1), resumed(2), resumed(4)), (Ok(2), Ok(2), Ok(4))));
        // A number of one's own is not taken for it.
        assert!(matches!(
            count(Auto::Number(3), 4, Some(2), 6),
            Err(TrainError::FewLanes { devices: 4, lanes: 3 })
        ));
        assert!(matches!(count(Auto::Number(2), 4, None, 6), Err(TrainError::FewLanes { .. })));
    }
}
