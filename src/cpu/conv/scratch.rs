//! Working memory that each thread keeps, so that no call pays for fresh pages.

use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Values in a cache line.
const LINE: usize = 16;

/// Hands a buffer of this length, at the start of a cache line, to `work`; what it holds is left
/// over from earlier use. Calls may be nested, each gets a buffer of its own.
pub(super) fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < length + LINE {
        buffer.resize(length + LINE, 0.0);
    }
    // Where an alignment cannot be had (in an interpreter), any start will do.
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = work(&mut buffer[start..][..length]);
    KEPT.with_borrow_mut(|kept| kept.push(buffer));
    result
}
