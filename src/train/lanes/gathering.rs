//! Collects the gradients of all lanes, group by group, to be summed: those of the last stages while the
//! devices still compute those of the first.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::gradients::HostGradients;
use super::groups::Layout;

/// The gradients that the lanes of this process have delivered in a step.
#[derive(Debug)]
pub(in crate::train) struct Gathering {
    pub(super) layout: Layout,
    /// Number of the first lane of this process.
    first: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Gradients of each lane and group that have been delivered and not yet taken.
    lanes: Vec<Vec<Option<HostGradients>>>,
    /// Whether a lane has failed, so that some gradients will never be delivered.
    failed: bool,
    /// Time of the last delivery.
    complete: Instant,
}

impl Gathering {
    /// Creates a gathering for these lanes. `computes` returns whether a lane has any actions.
    pub(super) fn new(
        layout: Layout,
        lanes: Range<usize>,
        computes: impl Fn(usize) -> bool,
    ) -> Self {
        let lane = |number: usize| {
            let none = (!computes(number)).then(HostGradients::default);
            vec![none; layout.groups.len()]
        };
        let first = lanes.start;
        let (lanes, complete) = (lanes.map(lane).collect(), Instant::now());
        let state = Mutex::new(State { lanes, failed: false, complete });
        Self { layout, first, state, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A lane that panicked is marked as failed; the state is valid otherwise.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers a group of a lane's gradients.
    pub(super) fn deliver(&self, lane: usize, group: usize, gradients: HostGradients) {
        let mut state = self.lock();
        state.lanes[lane - self.first][group] = Some(gradients);
        state.complete = Instant::now();
        self.changed.notify_all();
    }

    /// Marks the gathering as failed and wakes all waiting threads.
    pub(super) fn fail(&self) {
        self.lock().failed = true;
        self.changed.notify_all();
    }

    /// Waits for a group of gradients from all lanes of this process and takes it; `None` if a lane has
    /// failed.
    pub(super) fn take(&self, group: usize) -> Option<Vec<HostGradients>> {
        let mut state = self.lock();
        while !state.failed && state.lanes.iter().any(|lane| lane[group].is_none()) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failed {
            return None;
        }
        state.lanes.iter_mut().map(|lane| lane[group].take()).collect()
    }

    /// Returns the time of the last delivery.
    pub(super) fn complete(&self) -> Instant {
        self.lock().complete
    }
}

#[cfg(test)]
mod tests {
    use super::super::groups::Group;
    use super::*;

    #[test]
    fn a_failed_lane_ends_the_wait() {
        let layout = Layout { sizes: Vec::new(), groups: vec![Group::default(), Group::default()] };
        let gathering = Gathering::new(layout, 2..5, |lane| lane != 3);
        let values = |value: f32| HostGradients(vec![Some(vec![value])]);
        gathering.deliver(2, 0, values(1.0));
        gathering.deliver(4, 0, values(2.0));
        let first = gathering.take(0).unwrap();
        assert_eq!(first, [values(1.0), HostGradients::default(), values(2.0)]);
        gathering.deliver(2, 1, values(3.0));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| gathering.take(1));
            gathering.fail();
            assert_eq!(waits.join().unwrap(), None);
        });
    }
}
