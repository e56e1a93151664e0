//! Exchange with the other processes that compute lanes.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::gradients::{self, HostGradients};
use super::result::LaneResult;
use super::tree;
use super::weights::Weights;
use crate::cluster::Cluster;
use crate::data::Batch;
use crate::train::error::TrainError;

/// The ranks of a run and the lanes of each.
#[derive(Debug)]
pub(super) struct Ranks {
    pub cluster: Rc<Cluster>,
    /// Lanes of each rank.
    shares: Vec<Range<usize>>,
    /// Whether all ranks compute alike. If not, the lead's weights are sent to all after each update, as
    /// the ranks' weights would otherwise drift apart.
    pub alike: bool,
    /// Whether any rank had been asked to stop at the last exchange.
    stopped: Cell<bool>,
}

/// Metadata of a rank's share of a batch.
#[derive(Debug, Serialize, Deserialize)]
struct Share {
    actions: Vec<String>,
    earlier: Vec<usize>,
    view_counts: Vec<usize>,
    views: Vec<usize>,
    labels: Vec<Vec<Option<usize>>>,
    properties: Vec<Vec<usize>>,
    lanes: Vec<Range<usize>>,
}

/// A rank's report on the results of its lanes.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Whether one of the rank's devices was out of memory.
    starved: bool,
    stop: bool,
    /// Compute time, seconds.
    busy: f64,
    lanes: Vec<LaneResult>,
}

/// A rank's report on its gradients of a group, which is exchanged before the values.
#[derive(Debug, Serialize, Deserialize)]
struct Present {
    /// Whether a lane of the rank has failed.
    failed: bool,
    /// Which parameters have a gradient, for each of the rank's partial sums.
    sums: Vec<Vec<bool>>,
}

impl Ranks {
    pub(super) fn new(cluster: Rc<Cluster>, shares: Vec<Range<usize>>, alike: bool) -> Self {
        Self { cluster, shares, alike, stopped: Cell::new(false) }
    }

    /// Returns the lanes of this rank.
    pub(super) fn own(&self) -> Range<usize> {
        self.shares[self.cluster.rank()].clone()
    }

    /// Returns whether the ranks have agreed to stop the run.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Completes a batch from this rank's share: the result has the labels, views and other metadata of
    /// all actions, but only the frames of this rank's.
    pub(super) fn complete(&self, mut batch: Batch) -> Result<Batch, TrainError> {
        let own = Share {
            actions: std::mem::take(&mut batch.actions),
            earlier: std::mem::take(&mut batch.earlier),
            view_counts: std::mem::take(&mut batch.view_counts),
            views: std::mem::take(&mut batch.views),
            labels: batch.labels.iter_mut().map(std::mem::take).collect(),
            properties: batch.properties.iter_mut().map(std::mem::take).collect(),
            lanes: std::mem::take(&mut batch.lanes),
        };
        for (rank, share) in self.cluster.all_gather(&own)?.into_iter().enumerate() {
            if rank == self.cluster.rank() {
                batch.frames_from = batch.views.len();
            }
            let first = batch.actions.len();
            batch.lanes.extend(share.lanes.iter().map(|l| first + l.start..first + l.end));
            batch.actions.extend(share.actions);
            batch.earlier.extend(share.earlier);
            batch.view_counts.extend(share.view_counts);
            batch.views.extend(share.views);
            batch.labels.iter_mut().zip(share.labels).for_each(|(all, part)| all.extend(part));
            let columns = batch.properties.iter_mut().zip(share.properties);
            columns.for_each(|(all, part)| all.extend(part));
        }
        Ok(batch)
    }

    /// Exchanges results with the other ranks. Returns the results of all lanes and the compute time of
    /// each rank in seconds. `own` and `busy` are this rank's; `stop` asks all ranks to stop.
    ///
    /// # Errors
    /// [`TrainError::OutOfMemory`] on all ranks if any rank is out of memory.
    pub(super) fn join(
        &self,
        own: Result<Vec<LaneResult>, TrainError>,
        stop: bool,
        busy: f64,
    ) -> Result<(Vec<LaneResult>, Vec<f64>), TrainError> {
        let (lanes, starved) = match own {
            Ok(lanes) => (lanes, false),
            Err(error) if error.is_out_of_memory() => (Vec::new(), true),
            Err(error) => return Err(error),
        };
        let reports = self.cluster.all_gather(&Report { starved, stop, busy, lanes })?;
        let busy = reports.iter().map(|report| report.busy).collect();
        self.stopped.set(reports.iter().any(|report| report.stop));
        if reports.iter().any(|report| report.starved) {
            return Err(TrainError::OutOfMemory);
        }
        Ok((reports.into_iter().flat_map(|report| report.lanes).collect(), busy))
    }

    /// Returns the sum of all lanes' gradients of a group whose parameters have these `sizes`; `own` are
    /// those of this rank's lanes. `None`, on all ranks, if a lane has failed.
    pub(super) fn total(
        &self,
        own: Option<Vec<HostGradients>>,
        sizes: &[usize],
    ) -> Result<Option<HostGradients>, TrainError> {
        let failed = own.is_none();
        let own = self.own_sums(own.unwrap_or_default());
        let of_sum = |sum: &HostGradients| sum.0.iter().map(Option::is_some).collect();
        let all =
            self.cluster.all_gather(&Present { failed, sums: own.iter().map(of_sum).collect() })?;
        if all.iter().any(|present| present.failed) {
            return Ok(None);
        }
        let present: Vec<_> = all.into_iter().map(|present| present.sums).collect();
        Ok(Some(self.sum(&own, &present, sizes)))
    }

    /// Returns an error if the weights of any rank differ from the lead's.
    pub(super) fn compare(&self, weights: &Weights) -> Result<(), TrainError> {
        let digests = self.cluster.all_gather(&weights.digest())?;
        match digests.iter().position(|digest| *digest != digests[0]) {
            Some(rank) => Err(TrainError::Drift { rank: self.cluster.name(rank) }),
            None => Ok(()),
        }
    }

    fn all_lanes(&self) -> Range<usize> {
        0..self.shares.last().map_or(0, |share| share.end)
    }

    /// Returns the sums of the tree nodes whose lanes all belong to this rank.
    fn own_sums(&self, lanes: Vec<HostGradients>) -> Vec<HostGradients> {
        if lanes.is_empty() {
            return Vec::new();
        }
        let mut lanes = lanes.into_iter();
        let mut sum = |node: Range<usize>| {
            HostGradients::sum(lanes.by_ref().take(node.len()).collect(), node)
        };
        tree::nodes(&self.own(), &self.all_lanes()).into_iter().map(&mut sum).collect()
    }

    /// Adds the partial sums of all ranks (an all-reduce): each rank adds one slice of the values
    /// and sends it to the others.
    fn sum(
        &self,
        own: &[HostGradients],
        present: &[Vec<Vec<bool>>],
        sizes: &[usize],
    ) -> HostGradients {
        let (rank, size) = (self.cluster.rank(), self.cluster.size());
        // Only parameters with a gradient in some lane are sent.
        let sent: Vec<bool> = (0..sizes.len())
            .map(|p| present.iter().flatten().any(|node| node.get(p) == Some(&true)))
            .collect();
        let mut ends = Vec::new();
        let mut total = 0;
        for (size, sent) in sizes.iter().zip(&sent) {
            total += if *sent { *size } else { 0 };
            ends.push(total);
        }
        let slice = |rank: usize| total * rank / size..total * (rank + 1) / size;
        let flat: Vec<Vec<f32>> = own.iter().map(|sum| flatten(sum, sizes, &sent, total)).collect();
        let nodes: Vec<Vec<Range<usize>>> =
            self.shares.iter().map(|share| tree::nodes(share, &self.all_lanes())).collect();
        let mine = slice(rank);
        let mut pieces: Vec<Vec<Vec<f32>>> = (0..size)
            .map(|from| match from == rank {
                true => flat.iter().map(|values| values[mine.clone()].to_vec()).collect(),
                false => vec![vec![0.0; mine.len()]; nodes[from].len()],
            })
            .collect();
        let others = || (0..size).filter(|other| *other != rank);
        let sends: Vec<(usize, &[u8])> = others()
            .flat_map(|to| flat.iter().map(move |values| (to, values)))
            .map(|(to, values)| (to, bytemuck::cast_slice(&values[slice(to)])))
            .collect();
        let receives = pieces.iter_mut().enumerate().filter(|(from, _)| *from != rank);
        let receives = receives.flat_map(|(from, sums)| {
            sums.iter_mut().map(move |values| (from, bytemuck::cast_slice_mut(&mut values[..])))
        });
        self.cluster.transfer(&sends, receives.collect());
        drop(flat);

        // The rank that has the sum of a tree node, and the index among that rank's sums.
        let holders: HashMap<&Range<usize>, [usize; 2]> = nodes
            .iter()
            .enumerate()
            .flat_map(|(from, nodes)| {
                nodes.iter().enumerate().map(move |(index, node)| (node, [from, index]))
            })
            .collect();
        // Add each parameter's values within the slice, over the tree nodes that have its gradient.
        let mut result = vec![0.0; total];
        let mut start = 0;
        for (parameter, end) in ends.iter().copied().enumerate() {
            let part = start.max(mine.start)..end.min(mine.end);
            start = end;
            if part.is_empty() {
                continue;
            }
            let within = part.start - mine.start..part.end - mine.start;
            let mut given = |node: &Range<usize>| {
                let &[from, index] = holders.get(node)?;
                let has = present[from][index].get(parameter) == Some(&true);
                Some(has.then(|| pieces[from][index][within.clone()].to_vec()))
            };
            let sum = tree::total(&self.all_lanes(), &mut given, &mut gradients::add);
            result[part].copy_from_slice(&sum.expect("some lane has a gradient"));
        }
        let own_slice = result[mine.clone()].to_vec();
        let sends: Vec<(usize, &[u8])> =
            others().map(|to| (to, bytemuck::cast_slice(&own_slice[..]))).collect();
        let mut receives: Vec<(usize, &mut [u8])> = Vec::new();
        let mut rest = &mut result[..];
        for from in 0..size {
            let (values, after) = rest.split_at_mut(slice(from).len());
            rest = after;
            if from != rank {
                receives.push((from, bytemuck::cast_slice_mut(values)));
            }
        }
        self.cluster.transfer(&sends, receives);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let take = |((start, end), sent): ((usize, &usize), &bool)| {
            sent.then(|| result[start..*end].to_vec())
        };
        HostGradients(starts.zip(&ends).zip(&sent).map(take).collect())
    }
}

/// Concatenates the values of the parameters that are sent, with zeros for those without a gradient in
/// `sum`.
fn flatten(sum: &HostGradients, sizes: &[usize], sent: &[bool], total: usize) -> Vec<f32> {
    let mut flat = Vec::with_capacity(total);
    for (parameter, size) in sizes.iter().enumerate().filter(|(p, _)| sent[*p]) {
        match sum.0.get(parameter) {
            Some(Some(values)) => flat.extend_from_slice(values),
            _ => flat.extend_from_slice(&vec![0.0; *size]),
        }
    }
    flat
}
