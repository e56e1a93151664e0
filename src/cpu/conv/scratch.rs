//! Scratch memory that is kept between calls, so that no call has to fault in fresh pages.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

static SHARED: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Values in a cache line.
const LINE: usize = 16;

/// Calls `work` with a buffer of this length that is aligned to a cache line and belongs to the
/// current thread. Its contents are unspecified. Calls may be nested; each gets a separate buffer.
pub(super) fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = work(aligned(&mut buffer, length));
    KEPT.with_borrow_mut(|kept| kept.push(buffer));
    result
}

/// Like [`with_scratch`], for a large buffer that several threads work on. The process keeps it for
/// the next caller on any thread.
pub(super) fn with_shared_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let kept = || SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = kept().pop().unwrap_or_default();
    let result = work(aligned(&mut buffer, length));
    kept().push(buffer);
    result
}

/// Frees the large buffers that are kept for the next call; not those that a call is using. Each
/// thread keeps its own, which are no larger than caches.
pub fn release_scratch() {
    let kept = std::mem::take(&mut *SHARED.lock().unwrap_or_else(PoisonError::into_inner));
    drop(kept);
}

fn aligned(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length + LINE {
        buffer.resize(length + LINE, 0.0);
    }
    // Where the alignment cannot be computed (in an interpreter such as Miri), any start will do.
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    &mut buffer[start..][..length]
}
