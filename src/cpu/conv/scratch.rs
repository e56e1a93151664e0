//! Working memory that is kept, so that no call pays for fresh pages.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

static SHARED: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Values in a cache line.
const LINE: usize = 16;

/// Hands a buffer of this length, at the start of a cache line, to `work`, which is all that uses it; what
/// it holds is left over from earlier use by this thread. Calls may be nested, each gets a buffer of its
/// own.
pub(super) fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = work(aligned(&mut buffer, length));
    KEPT.with_borrow_mut(|kept| kept.push(buffer));
    result
}

/// The same for a large buffer on which several threads work. The process keeps it, for whichever thread is
/// the next to need one.
pub(super) fn with_shared_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let kept = || SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = kept().pop().unwrap_or_default();
    let result = work(aligned(&mut buffer, length));
    kept().push(buffer);
    result
}

fn aligned(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length + LINE {
        buffer.resize(length + LINE, 0.0);
    }
    // Where an alignment cannot be had (in an interpreter), any start will do.
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    &mut buffer[start..][..length]
}
