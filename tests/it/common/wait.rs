//! Waiting for events. No test assumes how long something takes; the limit only turns a hang into
//! a failure.

use std::time::{Duration, Instant};

/// Far longer than anything here takes, on any machine.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Returns once `happened` returns true; panics after [`LIMIT`].
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < LIMIT, "{what}: did not happen within {LIMIT:?}");
        std::thread::yield_now();
    }
}
