//! The cache's error type and its warnings, each kind of which is logged once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

/// The reason why a cache cannot be opened. Training continues without one.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder cannot be created or is not writable.
    #[error(
        "frame cache: {}: cannot be written: {source} (make it writable or choose another folder)",
        .path.display()
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An entry differs from what was written.
    Damaged,
    /// An entry could not be read.
    Unreadable,
    /// An entry could not be written.
    Unwritable,
    /// The disk is full; nothing more is written.
    NoSpace,
    /// The disk is nearly full.
    LowDisk,
    /// The limit is reached by this run's own clips.
    Full,
    /// The folder was removed during the run.
    Removed,
}

/// The warnings so far.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<BTreeMap<Kind, String>>);

impl Warnings {
    /// Logs a warning unless one of this kind has been logged before.
    pub(super) fn warn_once(&self, kind: Kind, text: impl FnOnce() -> String) {
        let mut warnings = lock(&self.0);
        if let Entry::Vacant(entry) = warnings.entry(kind) {
            let text = entry.insert(format!("frame cache: {}", text()));
            log::warn!("{text}");
        }
    }

    /// Returns the texts of all warnings.
    pub(super) fn all(&self) -> Vec<String> {
        lock(&self.0).values().cloned().collect()
    }
}

/// Locks a mutex whose data stay valid if a thread panics while holding it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
