//! What can go wrong with the cache, and telling each kind of it once.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

/// Why there is no cache. Training goes on without one.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder could not be made, or nothing can be written there.
    #[error(
        "frame cache: {}: cannot be written: {source} (make it writable or give --cache)",
        .path.display()
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// Kinds of trouble; each is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An entry had other bytes than were written.
    Damaged,
    /// An entry could not be read.
    Unreadable,
    /// An entry could not be written.
    Unwritable,
    /// There is no room on the disk; nothing more is written.
    NoSpace,
    /// The disk is nearly full.
    LowDisk,
    /// The bound is reached by this run's own clips.
    Full,
    /// The folder was removed under the run.
    Removed,
}

/// The warnings given so far.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<BTreeMap<Kind, String>>);

impl Troubles {
    /// Warns, unless this kind was told before.
    pub fn tell(&self, kind: Kind, text: impl FnOnce() -> String) {
        let mut told = lock(&self.0);
        if let std::collections::btree_map::Entry::Vacant(place) = told.entry(kind) {
            let text = place.insert(format!("frame cache: {}", text()));
            log::warn!("{text}");
        }
    }

    /// The warnings.
    pub fn told(&self) -> Vec<String> {
        lock(&self.0).values().cloned().collect()
    }
}

/// What is behind a lock stays right if a thread dies with it, so its death is not passed on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
