//! Lanes that exchange statistics at every layer: all at the same time, on one device too.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{StreamId, Tensor};

use super::job::{FirstClips, LaneJob, Replica, Unfinished};
use super::result::LaneResult;
use super::sync_norm::{SyncLane, SyncNorm};
use crate::device::MemoryWatch;
use crate::model::MultiViewNet;
use crate::train::error::TrainError;
use crate::train::step::Together;

impl LaneJob {
    /// Computes these lanes, each in a thread of its own. For the device all are one thread.
    pub(super) fn run_together(
        &self,
        on: Replica,
        lanes: Range<usize>,
        first: &FirstClips,
        all: &Arc<SyncNorm>,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<Vec<LaneResult>, TrainError> {
        let most = self.memory.micro_batch;
        let twice = self.batch.lanes.iter().any(|lane| self.batch.clips_of(lane).len() > most);
        let stream = StreamId::current();
        std::thread::scope(|scope| {
            // Its end would wait for lanes that nobody serves.
            let _unserved = BreakOff(all);
            let start = |number: usize| {
                let clips = self.batch.clips_of(&self.batch.lanes[number]);
                if clips.is_empty() {
                    return None;
                }
                let first = first.borrow_mut().take_if(|(range, _)| clips.contains(&range.start));
                let net = OwnGraph::of(on.net);
                let lane = Arc::new(SyncLane::new(all, number));
                let work = move || {
                    let unfinished = Unfinished::new(self);
                    let replica = Replica { net: &net, ..on };
                    let together = Some(Together { lane: &lane, twice });
                    let (first, mut watch) = (RefCell::new(first), MemoryWatch::start(on.device));
                    let mut queued = || Ok(());
                    let result =
                        self.lane(replica, number, &first, together, &mut watch, &mut queued);
                    if result.is_ok() {
                        unfinished.finished();
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
}

/// Ends the exchange where the thread that serves it panics.
struct BreakOff<'a>(&'a SyncNorm);

impl Drop for BreakOff<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.break_off();
        }
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
