//! The limit on the size of all entries, eviction when it is reached, and the reserve of free disk
//! space.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use super::folder::{Folder, Found};
use super::key::Id;

/// Scans may take at most 1/50 of the time; on a slow disk they are made less often.
const SCAN_SHARE: u32 = 50;
/// The interval between scans is stretched to at most 20 times the configured one.
const MAX_STRETCH: u32 = 20;

/// Limits of a cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Maximum size of all entries together, bytes.
    pub max_bytes: u64,
    /// Minimum free space on the disk, bytes: checkpoints may be written to the same disk.
    pub min_free: u64,
    /// Minimum free share of the disk, 0 to 1; the larger of the two minima applies.
    pub min_free_share: f64,
    /// Time between scans for other runs' entries; with 0, every write scans. It is extended on
    /// disks where scans are slow.
    pub rescan: Duration,
}

impl Limits {
    /// Returns limits of `max_bytes` in total, at least 2 GB and 5 % of the disk free, and a scan
    /// every 30 s.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            min_free: 2_000_000_000,
            min_free_share: 0.05,
            rescan: Duration::from_secs(30),
        }
    }
}

/// The reason why a clip is not cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The limit is reached, and nothing may be evicted.
    Full,
    /// Too little space would be left on the disk.
    LowDisk {
        /// Free bytes now.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
}

/// Tracks the size of all entries. Other runs write and evict too, so between two scans it is an
/// estimate.
#[derive(Debug)]
pub(super) struct SizeBudget {
    limits: Limits,
    /// Size of the complete entries, bytes.
    bytes: u64,
    /// Size of the entries that this run is writing, bytes.
    in_flight: u64,
    /// The entries that the last scan found, oldest first, without those evicted since.
    oldest: VecDeque<Found>,
    /// Time when the next scan is due.
    due: Instant,
    /// Whether the last scan found nothing to evict, so that no further scan is made before it is
    /// due.
    exhausted: bool,
}

impl SizeBudget {
    /// Creates a budget and scans the folder.
    pub(super) fn new(folder: &Folder, limits: Limits) -> Self {
        let mut budget = Self {
            limits,
            bytes: 0,
            in_flight: 0,
            oldest: VecDeque::new(),
            due: Instant::now(),
            exhausted: false,
        };
        budget.scan(folder);
        budget
    }

    /// Returns the size of the entries as far as this run knows, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts all entries again.
    pub(super) fn scan(&mut self, folder: &Folder) {
        let start = Instant::now();
        let mut found = folder.scan();
        found.sort_unstable_by_key(|entry| (entry.used, entry.id));
        self.bytes = found.iter().map(|entry| entry.bytes).sum();
        self.oldest = found.into();
        let rescan = self.limits.rescan;
        let slow = (start.elapsed() * SCAN_SHARE).min(rescan.saturating_mul(MAX_STRETCH));
        self.due = start + rescan.max(slow);
        self.exhausted = false;
    }

    /// Reserves `bytes` for a file to be written; must be followed by [`SizeBudget::settle`]. With
    /// `evict`, entries that are not `pinned` are evicted to make room, the least recently used
    /// first.
    pub(super) fn admit(
        &mut self,
        folder: &Folder,
        bytes: u64,
        evict: bool,
        pinned: impl Fn(&Id) -> bool,
    ) -> Result<(), Refusal> {
        self.check_disk(folder, bytes)?;
        if bytes > self.limits.max_bytes {
            return Err(Refusal::Full);
        }
        if Instant::now() >= self.due {
            self.scan(folder);
        }
        let mut fits = self.free(folder, bytes, evict, &pinned);
        if !fits && !self.exhausted {
            self.scan(folder);
            fits = self.free(folder, bytes, evict, &pinned);
            self.exhausted = !fits;
        }
        if !fits {
            return Err(Refusal::Full);
        }
        self.in_flight += bytes;
        Ok(())
    }

    /// Ends the reservation of an admitted file; `written` says whether writing succeeded.
    pub(super) fn settle(&mut self, bytes: u64, written: bool) {
        self.in_flight =
            self.in_flight.checked_sub(bytes).expect("only admitted files are settled, once each");
        if written {
            self.bytes += bytes;
        }
    }

    /// Subtracts the size of an entry that was removed.
    pub(super) fn forget(&mut self, bytes: u64) {
        // Saturating: another run's entry may not have been counted yet.
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn fits(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(self.in_flight).saturating_add(bytes) <= self.limits.max_bytes
    }

    /// Evicts entries until `bytes` fit. Returns whether they fit.
    fn free(
        &mut self,
        folder: &Folder,
        bytes: u64,
        evict: bool,
        pinned: &impl Fn(&Id) -> bool,
    ) -> bool {
        while !self.fits(bytes) {
            if !evict {
                return false;
            }
            let Some(entry) = self.oldest.pop_front() else { return false };
            if !pinned(&entry.id) {
                self.evict(folder, &entry);
            }
        }
        true
    }

    fn evict(&mut self, folder: &Folder, entry: &Found) {
        let path = folder.entry(&entry.id);
        let used = fs::metadata(&path).and_then(|about| about.modified());
        // Another run has used it since the scan, so it is no longer the oldest.
        if used.is_ok_and(|used| used != entry.used) {
            return;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::debug!("{}: {error}", path.display());
            }
            _ => self.forget(entry.bytes),
        }
    }

    fn check_disk(&self, folder: &Folder, bytes: u64) -> Result<(), Refusal> {
        let disk = match fs4::statvfs(folder.root()) {
            Ok(disk) => disk,
            // If the free space is unknown, the cache writes until the disk is full.
            Err(error) => {
                log::debug!("{}: {error}", folder.root().display());
                return Ok(());
            }
        };
        let share = (disk.total_space() as f64 * self.limits.min_free_share) as u64;
        let reserve = self.limits.min_free.max(share);
        let free = disk.available_space();
        let wanted = bytes.saturating_add(self.in_flight).saturating_add(reserve);
        if free < wanted { Err(Refusal::LowDisk { free, reserve }) } else { Ok(()) }
    }
}
