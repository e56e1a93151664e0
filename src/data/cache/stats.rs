//! What the cache has done, in numbers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted while threads use the cache.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub written: AtomicU64,
    pub refused: AtomicU64,
    pub damaged: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// The numbers so far, with the size of all entries.
    pub fn stats(&self, bytes: u64) -> Stats {
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

/// What a cache has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Clips that came from the cache.
    pub hits: u64,
    /// Clips that did not.
    pub misses: u64,
    /// Clips added.
    pub written: u64,
    /// Clips not added for want of room.
    pub refused: u64,
    /// Damaged entries found; each is a miss too.
    pub damaged: u64,
    /// Bytes of all entries, those of other runs as of the last count.
    pub bytes: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hits, misses, written, refused, damaged, bytes } = self;
        write!(f, "{hits} of {} clips read from the cache, {written} added", hits + misses)?;
        if *refused > 0 {
            write!(f, ", {refused} without room")?;
        }
        if *damaged > 0 {
            write!(f, ", {damaged} damaged")?;
        }
        write!(f, "; it holds {}", Bytes(*bytes))
    }
}

/// A number of bytes as people write it: 4.3 MB, 60.0 GB.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 {
            bytes if bytes >= 1e9 => write!(f, "{:.1} GB", bytes / 1e9),
            bytes if bytes >= 1e6 => write!(f, "{:.1} MB", bytes / 1e6),
            bytes if bytes >= 1e3 => write!(f, "{:.1} kB", bytes / 1e3),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
