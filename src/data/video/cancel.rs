//! Cancels the reading of clips when nobody is waiting for them any more or when it takes too long.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::super::clip::ClipError;

/// Cancels the reading of clips, from another thread or after a timeout. Clones share the same
/// state.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    /// Deadline, and the timeout from which it was computed.
    end: OnceLock<(Instant, Duration)>,
}

thread_local! {
    /// The handle that the decoders in this thread check. It is not a parameter: a dozen functions
    /// would have to pass it on to where a frame is decoded or ffmpeg is started, for the only
    /// caller that cancels.
    static CURRENT: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

impl Cancel {
    /// Cancels the reading immediately.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Cancels the reading after this time has passed from now. Only the first call has an effect.
    pub fn after(&self, time: Duration) {
        // A time that the clock cannot represent means no timeout.
        if let Some(end) = Instant::now().checked_add(time) {
            self.0.end.get_or_init(|| (end, time));
        }
    }

    /// Returns why the reading was cancelled, if it was.
    fn reason(&self) -> Option<String> {
        if self.0.cancelled.load(Ordering::Relaxed) {
            return Some("nobody is waiting for it any more".to_owned());
        }
        let (_, time) = self.0.end.get().filter(|(end, _)| Instant::now() >= *end)?;
        Some(format!("reading took longer than {} seconds", time.as_secs_f64()))
    }

    /// Returns whether the reading was cancelled.
    pub(super) fn has_ended(&self) -> bool {
        self.reason().is_some()
    }

    fn check(&self, path: &Path) -> Result<(), ClipError> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(ClipError::GivenUp { path: path.to_path_buf(), reason }),
        }
    }

    /// Reads a clip in this thread with this handle, so that cancelling it ends the reading.
    ///
    /// # Errors
    /// [`ClipError::GivenUp`] if the reading was cancelled; otherwise the errors of `read`.
    pub(in crate::data) fn reading<T>(
        &self,
        path: &Path,
        read: impl FnOnce() -> Result<T, ClipError>,
    ) -> Result<T, ClipError> {
        self.check(path)?;
        let before = CURRENT.replace(Some(self.clone()));
        let _restored = Restore(before);
        // Cancellation is the actual cause of any error of an interrupted decoder.
        read().or_else(|error| self.check(path).and(Err(error)))
    }
}

/// Restores the thread's previous handle when dropped.
struct Restore(Option<Cancel>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Returns the handle that can cancel the reading in this thread, if there is one.
pub(super) fn current() -> Option<Cancel> {
    CURRENT.with_borrow(Clone::clone)
}

/// Checks whether the reading in this thread may continue.
///
/// # Errors
/// [`ClipError::GivenUp`].
pub(super) fn check(path: &Path) -> Result<(), ClipError> {
    CURRENT.with_borrow(|current| current.as_ref().map_or(Ok(()), |cancel| cancel.check(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancellation_replaces_the_error_of_the_interrupted_decoder() {
        let path = Path::new("a.mkv");
        let cancel = Cancel::default();
        let interrupted = || {
            assert_eq!(check(path), Ok(()));
            cancel.cancel();
            assert_eq!(check(path).unwrap_err().kind(), "given up");
            Err::<(), _>(ClipError::Empty(path.to_path_buf()))
        };
        let error = cancel.reading(path, interrupted).unwrap_err();
        assert_eq!(error.to_string(), "a.mkv: given up: nobody is waiting for it any more");
        // The handle no longer applies to what this thread reads next.
        assert_eq!(check(path), Ok(()));
        assert!(current().is_none());
        let late = Cancel::default();
        late.after(Duration::from_secs(3600));
        late.after(Duration::ZERO);
        assert_eq!(late.reading(path, || Ok(7)), Ok(7));
        let empty = late.reading(path, || Err::<(), _>(ClipError::Empty(path.to_path_buf())));
        assert_eq!(empty.unwrap_err().kind(), "empty");
        let slow = Cancel::default();
        slow.after(Duration::ZERO);
        let error = slow.reading(path, || Ok(())).unwrap_err().to_string();
        assert_eq!(error, "a.mkv: given up: reading took longer than 0 seconds");
    }
}
