//! Helpers for measuring time.

use std::time::Instant;

/// Returns the milliseconds that have passed since `since`.
pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Time in milliseconds for which a GPU must be busy to reach its full clock, which it lowers while idle: an
/// H200 goes from 345 to 1980 MHz in about this time.
const BUSY: f64 = 100.0;

/// Repeats `work` until a GPU has reached its full clock.
pub(crate) fn at_full_clock<E>(mut work: impl FnMut() -> Result<f64, E>) -> Result<(), E> {
    let start = Instant::now();
    while milliseconds(start) < BUSY {
        work()?;
    }
    Ok(())
}

/// Returns the median: of an even number of values, the mean of the two in the middle; NaN without values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    match (values.get(count.wrapping_sub(1) / 2), values.get(count / 2)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_work_is_repeated_and_stops_at_an_error() {
        let mut rounds = 0;
        let result = at_full_clock(|| {
            rounds += 1;
            if rounds < 3 { Ok(0.0) } else { Err("the device failed") }
        });
        assert_eq!((result, rounds), (Err("the device failed"), 3));
    }
}
