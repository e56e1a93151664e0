//! Lanes that exchange statistics at every layer, which must all run at the same time, even on one
//! device.

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
use crate::train::step::LaneSync;

impl LaneJob {
    /// Computes these lanes, each in its own thread. All threads use the same device stream.
    pub(super) fn run_synchronised(
        &self,
        on: Replica,
        lanes: Range<usize>,
        first: &FirstClips,
        all: &Arc<SyncNorm>,
        queued: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<Vec<LaneResult>, TrainError> {
        let most = self.memory.micro_batch;
        let two_passes = self.batch.lanes.iter().any(|lane| self.batch.clips_of(lane).len() > most);
        let stream = StreamId::current();
        std::thread::scope(|scope| {
            // If serving panics, the end of the scope would wait for lanes that are no longer served.
            let _guard = AbortOnPanic(all);
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
                    let lane_sync = Some(LaneSync { lane: &lane, two_passes });
                    let (first, mut watch) = (RefCell::new(first), MemoryWatch::start(on.device));
                    let mut queued = || Ok(());
                    let result =
                        self.lane(replica, number, &first, lane_sync, &mut watch, &mut queued);
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

/// Aborts the exchange if the thread that serves it panics.
struct AbortOnPanic<'a>(&'a SyncNorm);

impl Drop for AbortOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort();
        }
    }
}

/// Copies a network so that the copy has a separate autodiff graph. Burn merges graphs that share a
/// parameter, and only one thread at a time can traverse a graph.
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
