//! Reading that is given up before its end, because nobody waits for it any more or because it takes too
//! long.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::super::clip::ClipError;

/// Ends the reading of clips from another thread, or after a time. Its clones are one.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    /// When it ends by itself, and after which time that is.
    end: OnceLock<(Instant, Duration)>,
}

thread_local! {
    /// What the decoders in this thread ask. It is no parameter of theirs: a dozen functions would hand
    /// it on to where a frame is decoded or ffmpeg is started, for the one caller that cancels.
    static CURRENT: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

impl Cancel {
    /// Ends the reading now.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Ends the reading after this time, from now on. Only the first call counts.
    pub fn after(&self, time: Duration) {
        // A time that no clock reaches is none.
        if let Some(end) = Instant::now().checked_add(time) {
            self.0.end.get_or_init(|| (end, time));
        }
    }

    /// Why the reading has ended, if it has.
    fn reason(&self) -> Option<String> {
        if self.0.cancelled.load(Ordering::Relaxed) {
            return Some("nobody waits for it any more".to_owned());
        }
        let (_, time) = self.0.end.get().filter(|(end, _)| Instant::now() >= *end)?;
        Some(format!("reading took longer than {} seconds", time.as_secs_f64()))
    }

    /// Whether the reading has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.reason().is_some()
    }

    fn check(&self, path: &Path) -> Result<(), ClipError> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(ClipError::GivenUp { path: path.to_path_buf(), reason }),
        }
    }

    /// Reads a clip in this thread, which ends where this does.
    ///
    /// # Errors
    /// [`ClipError::GivenUp`] where it has; those of `read`.
    pub(in crate::data) fn reading<T>(
        &self,
        path: &Path,
        read: impl FnOnce() -> Result<T, ClipError>,
    ) -> Result<T, ClipError> {
        self.check(path)?;
        let before = CURRENT.replace(Some(self.clone()));
        let _restored = Restore(before);
        // Whatever a decoder says that was interrupted, this is why.
        read().or_else(|error| self.check(path).and(Err(error)))
    }
}

/// Puts back what a thread's decoders asked before.
struct Restore(Option<Cancel>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// What ends the reading in this thread, if anything may.
pub(super) fn current() -> Option<Cancel> {
    CURRENT.with_borrow(Clone::clone)
}

/// Whether the reading in this thread may go on.
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
    fn an_interrupted_error_is_that_of_the_interruption() {
        let path = Path::new("a.mkv");
        let cancel = Cancel::default();
        let interrupted = || {
            assert_eq!(check(path), Ok(()));
            cancel.cancel();
            assert_eq!(check(path).unwrap_err().kind(), "given up");
            Err::<(), _>(ClipError::Empty(path.to_path_buf()))
        };
        let error = cancel.reading(path, interrupted).unwrap_err();
        assert_eq!(error.to_string(), "a.mkv: given up: nobody waits for it any more");
        // In this thread alone, and not for what it reads next.
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
