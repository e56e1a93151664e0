//! Batch norm over all lanes of a step. Each lane computes in a thread of its own; at every layer it waits
//! until the lanes have told each other what they found. Lanes may differ in the number of their passes,
//! and one without actions has none: who takes part in an exchange follows from where each lane is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::ExecutionError;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, ClusterError};
use crate::norm::{Exchange, Shares};
use crate::train::step::ExchangesStatistics;

/// A pass over some clips of a lane: which of the two over them, and its number. All lanes go through
/// theirs in this order.
type Pass = (u32, u32);

/// Where a lane is: its pass, and the exchange in it.
type Place = (Pass, u32);

/// The exchanges of a step, as the lanes of one process see them.
#[derive(Debug)]
pub(in crate::train) struct SyncNorm {
    /// The first lane of this process.
    first: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lanes: Vec<Lane>,
    /// Whether a lane has failed: what the others compute does not matter any more.
    broken: bool,
}

#[derive(Debug)]
enum Lane {
    Computes,
    Waits(Place, Vec<f64>),
    Answered(Shares),
    Finished,
}

/// What one process says of its lanes when none of them computes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    broken: bool,
    /// The first place at which one of them waits; `None` if all have finished.
    place: Option<Place>,
    /// The numbers of those at this place, and what they have found.
    shares: Vec<(usize, Vec<f64>)>,
}

impl SyncNorm {
    /// For the lanes of this process, from number `first` on; whether each has any actions.
    pub(in crate::train) fn new(first: usize, lanes: impl Iterator<Item = bool>) -> Self {
        let lane = |computes| if computes { Lane::Computes } else { Lane::Finished };
        let state = State { lanes: lanes.map(lane).collect(), broken: false };
        Self { first, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A lane that panicked broke off the exchange; there is nothing else to protect.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the lanes of this process, and with them those of other ranks, until all have finished or
    /// one has failed. Returns the time that other ranks took.
    pub(in crate::train) fn serve(
        &self,
        ranks: Option<&Cluster>,
    ) -> Result<Duration, ClusterError> {
        let mut waited = Duration::ZERO;
        let result = loop {
            let own = self.report();
            let began = Instant::now();
            let all = match ranks.map(|cluster| cluster.all(&own)) {
                None => vec![own],
                Some(Ok(all)) => all,
                Some(Err(error)) => break Err(error),
            };
            waited += began.elapsed();
            let place = all.iter().filter_map(|report| report.place).min();
            let Some(place) = place.filter(|_| all.iter().all(|report| !report.broken)) else {
                break Ok(waited);
            };
            self.answer(place, all);
        };
        // Whoever still waits would wait for ever.
        self.break_off();
        result
    }

    /// Waits until no lane computes, or one has failed: others may not even begin then.
    fn report(&self) -> Report {
        let mut state = self.lock();
        let computes = |lane: &Lane| matches!(lane, Lane::Computes | Lane::Answered(_));
        while !state.broken && state.lanes.iter().any(computes) {
            state = self.wait(state);
        }
        let waiting = || {
            (self.first..).zip(&state.lanes).filter_map(|(number, lane)| match lane {
                Lane::Waits(place, values) => Some((*place, (number, values))),
                _ => None,
            })
        };
        let place = waiting().map(|(place, _)| place).min();
        let shares = waiting().filter(|(at, _)| Some(*at) == place);
        let shares = shares.map(|(_, (number, values))| (number, values.clone())).collect();
        Report { broken: state.broken, place, shares }
    }

    /// Hands what all lanes at a place have found to those of this process.
    fn answer(&self, place: Place, all: Vec<Report>) {
        let there = all.into_iter().filter(|report| report.place == Some(place));
        // Ranks have consecutive lanes.
        let (numbers, values): (Vec<usize>, Vec<Vec<f64>>) =
            there.flat_map(|report| report.shares).unzip();
        let same = values.windows(2).all(|pair| pair[0].len() == pair[1].len());
        assert!(same, "lanes run the same layers in the same order");
        let values = Arc::new(values);
        let mut state = self.lock();
        for (own, number) in numbers.into_iter().enumerate() {
            // Others are of other ranks.
            let lane = number.checked_sub(self.first).and_then(|at| state.lanes.get_mut(at));
            if let Some(lane) = lane {
                *lane = Lane::Answered(Shares { values: Arc::clone(&values), own });
            }
        }
        self.changed.notify_all();
    }

    /// Lets no lane wait any more. What they compute from then on is worthless.
    pub(in crate::train) fn break_off(&self) {
        self.lock().broken = true;
        self.changed.notify_all();
    }

    fn set(&self, number: usize, lane: Lane) {
        self.lock().lanes[number - self.first] = lane;
        self.changed.notify_all();
    }
}

/// What a lane exchanges through. When it is dropped, the lane has finished.
#[derive(Debug)]
pub(super) struct SyncLane {
    all: Arc<SyncNorm>,
    number: usize,
    place: Mutex<Place>,
    error: Mutex<Option<ExecutionError>>,
}

impl SyncLane {
    pub(in crate::train) fn new(all: &Arc<SyncNorm>, number: usize) -> Self {
        let all = Arc::clone(all);
        Self { all, number, place: Mutex::default(), error: Mutex::default() }
    }

    /// Why the lane's device failed, if it did.
    pub(in crate::train) fn take_error(&self) -> Option<ExecutionError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The lane has failed: nobody need wait for it.
    pub(in crate::train) fn fail(&self) {
        self.all.break_off();
    }
}

impl ExchangesStatistics for Arc<SyncLane> {
    fn begin(&self, second: bool, index: usize) -> Arc<dyn Exchange> {
        let pass = (u32::from(second), index as u32);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = (pass, 0);
        Arc::<SyncLane>::clone(self)
    }
}

impl Exchange for SyncLane {
    fn all(&self, own: Vec<f64>) -> Shares {
        let place = {
            let mut next = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            let place = *next;
            next.1 += 1;
            place
        };
        self.all.set(self.number, Lane::Waits(place, own));
        let mut state = self.all.lock();
        loop {
            let broken = state.broken;
            let lane = &mut state.lanes[self.number - self.all.first];
            match std::mem::replace(lane, Lane::Computes) {
                Lane::Answered(shares) => return shares,
                Lane::Waits(_, own) if broken => {
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

    /// Lanes 3 to 5 of a process, of which the last has no actions.
    fn three() -> Arc<SyncNorm> {
        Arc::new(SyncNorm::new(3, [true, true, false].into_iter()))
    }

    #[test]
    fn lanes_with_fewer_passes_do_not_take_part_in_the_others_last_ones() {
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
    fn nobody_waits_for_a_lane_that_failed() {
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
