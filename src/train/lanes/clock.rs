//! Measures where the time of steps on several devices goes.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Times of a pass so far.
#[derive(Debug, Default)]
pub(super) struct Clock {
    exchange: Cell<Duration>,
    /// Compute time of each rank, seconds.
    busy: RefCell<Vec<f64>>,
}

impl Clock {
    /// Runs `work` and counts its time as exchange.
    pub(super) fn exchange<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.add_exchange(began.elapsed());
        result
    }

    /// Adds time spent on exchange.
    pub(super) fn add_exchange(&self, time: Duration) {
        self.exchange.set(self.exchange.get() + time);
    }

    /// Adds the compute time of each rank in a step, seconds.
    pub(super) fn add_busy(&self, seconds: &[f64]) {
        let mut busy = self.busy.borrow_mut();
        busy.resize(seconds.len(), 0.0);
        busy.iter_mut().zip(seconds).for_each(|(sum, seconds)| *sum += seconds);
    }

    /// Resets all times.
    pub(super) fn restart(&self) {
        self.exchange.set(Duration::ZERO);
        self.busy.borrow_mut().clear();
    }

    /// Returns the time spent on exchange, including waiting for slower devices.
    pub(super) fn exchanged(&self) -> Duration {
        self.exchange.get()
    }

    /// Returns the rank with the longest compute time and by how much it exceeds the mean, as a share of
    /// the mean.
    pub(super) fn slowest(&self) -> Option<(usize, f64)> {
        let busy = self.busy.borrow();
        let mean = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
        let longest = (0..busy.len()).max_by(|a, b| busy[*a].total_cmp(&busy[*b]))?;
        (mean > 0.0).then(|| (longest, busy[longest] / mean - 1.0))
    }
}
