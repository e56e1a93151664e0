//! The cache's counters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::units::ByteSize;

/// Counters that threads share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub written: AtomicU64,
    pub refused: AtomicU64,
    pub damaged: AtomicU64,
}

/// Increments a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// Returns a snapshot together with the size of all entries.
    pub(super) fn stats(&self, bytes: u64) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            written: read(&self.written),
            refused: read(&self.refused),
            damaged: read(&self.damaged),
            bytes,
        }
    }
}

/// Counts since a cache was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Clips read from the cache.
    pub hits: u64,
    /// Clips that were not in the cache.
    pub misses: u64,
    /// Clips added.
    pub written: u64,
    /// Clips not added for lack of space.
    pub refused: u64,
    /// Damaged entries found; each also counts as a miss.
    pub damaged: u64,
    /// Size of all entries in bytes; other runs' entries are counted as of the last scan.
    pub bytes: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hits, misses, written, refused, damaged, bytes } = self;
        write!(f, "{hits} of {} clips read from the cache, {written} added", hits + misses)?;
        if *refused > 0 {
            write!(f, ", {refused} refused for lack of space")?;
        }
        if *damaged > 0 {
            write!(f, ", {damaged} damaged")?;
        }
        write!(f, "; it holds {}", ByteSize(*bytes))
    }
}
