//! Where the time of steps on several devices goes.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// The times of a pass so far.
#[derive(Debug, Default)]
pub(super) struct Clock {
    exchange: Cell<Duration>,
    /// Seconds that each rank computed.
    busy: RefCell<Vec<f64>>,
}

impl Clock {
    /// Does some of the exchange.
    pub(super) fn exchange<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.add_exchange(began.elapsed());
        result
    }

    /// Adds time that was spent on it.
    pub(super) fn add_exchange(&self, time: Duration) {
        self.exchange.set(self.exchange.get() + time);
    }

    /// Adds what each rank computed in a step, seconds.
    pub(super) fn add_busy(&self, seconds: &[f64]) {
        let mut busy = self.busy.borrow_mut();
        busy.resize(seconds.len(), 0.0);
        busy.iter_mut().zip(seconds).for_each(|(sum, seconds)| *sum += seconds);
    }

    /// Begins anew.
    pub(super) fn restart(&self) {
        self.exchange.set(Duration::ZERO);
        self.busy.borrow_mut().clear();
    }

    /// Time of the exchange, waiting for slower devices included.
    pub(super) fn exchanged(&self) -> Duration {
        self.exchange.get()
    }

    /// The rank that computed longest, and by how much more than all do in the mean, as a share.
    pub(super) fn slowest(&self) -> Option<(usize, f64)> {
        let busy = self.busy.borrow();
        let mean = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
        let longest = (0..busy.len()).max_by(|a, b| busy[*a].total_cmp(&busy[*b]))?;
        (mean > 0.0).then(|| (longest, busy[longest] / mean - 1.0))
    }
}
