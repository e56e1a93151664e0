//! Synchronised batch norm over all lanes of a step. Each lane computes in its own thread; at every
//! layer it waits until the lanes have exchanged their statistics. Lanes may have different numbers
//! of passes, and a lane without actions has none: which lanes take part in an exchange follows
//! from the position of each.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::ExecutionError;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, ClusterError};
use crate::norm::{Exchange, Shares};
use crate::train::step::ExchangesStatistics;

/// A pass over a chunk of a lane's clips: whether it is the first (0) or second (1) over the chunk,
/// and the number of the chunk. All lanes run their passes in this order.
type Pass = (u32, u32);

/// Position of a lane: its pass, and the number of the exchange within it.
type Position = (Pass, u32);

/// The exchanges of statistics in a step, for the lanes of one process.
#[derive(Debug)]
pub(in crate::train) struct SyncNorm {
    /// Number of the first lane of this process.
    first: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lanes: Vec<Lane>,
    /// Whether a lane has failed, so that the results of the others no longer matter.
    aborted: bool,
}

#[derive(Debug)]
enum Lane {
    Computes,
    Waits(Position, Vec<f64>),
    Answered(Shares),
    Finished,
}

/// A process's report on its lanes, which is sent once none of them is computing.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    aborted: bool,
    /// First position at which one of the lanes waits; `None` if all have finished.
    position: Option<Position>,
    /// Numbers of the lanes at this position, and their statistics.
    shares: Vec<(usize, Vec<f64>)>,
}

impl SyncNorm {
    /// Creates the exchange for the lanes of this process, whose numbers start at `first`; `lanes` tells
    /// whether each has any actions.
    pub(in crate::train) fn new(first: usize, lanes: impl Iterator<Item = bool>) -> Self {
        let lane = |computes| if computes { Lane::Computes } else { Lane::Finished };
        let state = State { lanes: lanes.map(lane).collect(), aborted: false };
        Self { first, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A lane that panicked has aborted the exchange; the state is valid otherwise.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the lanes of this process, together with the other ranks, until all lanes have finished or
    /// one has failed. Returns the time spent waiting for other ranks.
    pub(in crate::train) fn serve(
        &self,
        ranks: Option<&Cluster>,
    ) -> Result<Duration, ClusterError> {
        let mut waited = Duration::ZERO;
        let result = loop {
            let own = self.report();
            let began = Instant::now();
            let all = match ranks.map(|cluster| cluster.all_gather(&own)) {
                None => vec![own],
                Some(Ok(all)) => all,
                Some(Err(error)) => break Err(error),
            };
            waited += began.elapsed();
            let position = all.iter().filter_map(|report| report.position).min();
            let Some(position) = position.filter(|_| all.iter().all(|report| !report.aborted))
            else {
                break Ok(waited);
            };
            self.answer(position, all);
        };
        // Any lane still waiting would wait forever.
        self.abort();
        result
    }

    /// Waits until no lane is computing or one has failed; after a failure other lanes may never start.
    fn report(&self) -> Report {
        let mut state = self.lock();
        let computes = |lane: &Lane| matches!(lane, Lane::Computes | Lane::Answered(_));
        while !state.aborted && state.lanes.iter().any(computes) {
            state = self.wait(state);
        }
        let waiting = || {
            (self.first..).zip(&state.lanes).filter_map(|(number, lane)| match lane {
                Lane::Waits(position, values) => Some((*position, (number, values))),
                _ => None,
            })
        };
        let position = waiting().map(|(position, _)| position).min();
        let shares = waiting().filter(|(at, _)| Some(*at) == position);
        let shares = shares.map(|(_, (number, values))| (number, values.clone())).collect();
        Report { aborted: state.aborted, position, shares }
    }

    /// Passes the statistics of all lanes at a position to those of them that belong to this process.
    fn answer(&self, position: Position, all: Vec<Report>) {
        let there = all.into_iter().filter(|report| report.position == Some(position));
        // Ranks have consecutive lanes, so these are in the order of the lanes.
        let (numbers, values): (Vec<usize>, Vec<Vec<f64>>) =
            there.flat_map(|report| report.shares).unzip();
        let same = values.windows(2).all(|pair| pair[0].len() == pair[1].len());
        assert!(same, "lanes run the same layers in the same order");
        let values = Arc::new(values);
        let mut state = self.lock();
        for (own, number) in numbers.into_iter().enumerate() {
            // The other lanes belong to other ranks.
            let lane = number.checked_sub(self.first).and_then(|at| state.lanes.get_mut(at));
            if let Some(lane) = lane {
                *lane = Lane::Answered(Shares { values: Arc::clone(&values), own });
            }
        }
        self.changed.notify_all();
    }

    /// Aborts the exchange, so that no lane waits any longer. The lanes' results are invalid from
    /// then on.
    pub(in crate::train) fn abort(&self) {
        self.lock().aborted = true;
        self.changed.notify_all();
    }

    fn set(&self, number: usize, lane: Lane) {
        self.lock().lanes[number - self.first] = lane;
        self.changed.notify_all();
    }
}

/// A lane's end of the exchange. Dropping it marks the lane as finished.
#[derive(Debug)]
pub(super) struct SyncLane {
    all: Arc<SyncNorm>,
    number: usize,
    position: Mutex<Position>,
    error: Mutex<Option<ExecutionError>>,
}

impl SyncLane {
    pub(in crate::train) fn new(all: &Arc<SyncNorm>, number: usize) -> Self {
        let all = Arc::clone(all);
        Self { all, number, position: Mutex::default(), error: Mutex::default() }
    }

    /// Returns the error of the lane's device, if it failed.
    pub(in crate::train) fn take_error(&self) -> Option<ExecutionError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Marks the lane as failed, so that nothing waits for it.
    pub(in crate::train) fn fail(&self) {
        self.all.abort();
    }
}

impl ExchangesStatistics for Arc<SyncLane> {
    fn begin(&self, second: bool, index: usize) -> Arc<dyn Exchange> {
        let pass = (u32::from(second), index as u32);
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = (pass, 0);
        Arc::<SyncLane>::clone(self)
    }
}

impl Exchange for SyncLane {
    fn all(&self, own: Vec<f64>) -> Shares {
        let position = {
            let mut next = self.position.lock().unwrap_or_else(PoisonError::into_inner);
            let position = *next;
            next.1 += 1;
            position
        };
        self.all.set(self.number, Lane::Waits(position, own));
        let mut state = self.all.lock();
        loop {
            let aborted = state.aborted;
            let lane = &mut state.lanes[self.number - self.all.first];
            match std::mem::replace(lane, Lane::Computes) {
                Lane::Answered(shares) => return shares,
                Lane::Waits(_, own) if aborted => {
                    return Shares { values: Arc::new(vec![own]), own: 0 };
                }
                waits => *lane = waits,
            }
            state = self.all.wait(state);
        }
    }

    fn failed(&self, error: ExecutionError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.fail();
    }
}

impl Drop for SyncLane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail();
        }
        self.all.set(self.number, Lane::Finished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates the exchange of a process with lanes 3 to 5, the last of which has no actions.
    fn three() -> Arc<SyncNorm> {
        Arc::new(SyncNorm::new(3, [true, true, false].into_iter()))
    }

    #[test]
    fn lanes_with_fewer_passes_do_not_take_part_in_later_exchanges() {
        let all = three();
        let lane = |number: usize, passes: usize| {
            let all = Arc::clone(&all);
            std::thread::spawn(move || {
                let lane = Arc::new(SyncLane::new(&all, number));
                let mut seen = Vec::new();
                for pass in 0..passes {
                    lane.begin(false, pass);
                    for layer in 0..2 {
                        let value = (100 * pass + 10 * layer + number) as f64;
                        let shares = lane.all(vec![value]);
                        seen.push((shares.own, shares.values.concat()));
                    }
                }
                seen
            })
        };
        let (one, two) = (lane(3, 1), lane(4, 2));
        all.serve(None).unwrap();
        assert_eq!(one.join().unwrap(), [(0, vec![3.0, 4.0]), (0, vec![13.0, 14.0])]);
        let alone = [(0, vec![104.0]), (0, vec![114.0])];
        let both = [(1, vec![3.0, 4.0]), (1, vec![13.0, 14.0])];
        assert_eq!(two.join().unwrap(), [both, alone].concat());
    }

    #[test]
    fn a_lane_that_failed_is_not_waited_for() {
        let all = three();
        let lane = |number: usize, fails: bool| {
            let all = Arc::clone(&all);
            std::thread::spawn(move || {
                let lane = Arc::new(SyncLane::new(&all, number));
                lane.begin(false, 0);
                lane.all(vec![1.0]);
                assert!(!fails, "this lane fails");
                lane.all(vec![2.0]).values.concat()
            })
        };
        let (good, bad) = (lane(3, false), lane(4, true));
        all.serve(None).unwrap();
        assert_eq!(good.join().unwrap(), [2.0]);
        assert!(bad.join().is_err());
    }
}
