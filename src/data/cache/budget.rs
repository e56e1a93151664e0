//! The limit on the size of all entries, eviction when it is reached, and the reserve of free disk
//! space.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::folder::{Folder, Found};
use super::key::Id;
use super::warnings::lock;

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
    /// Time between scans for other runs' entries; with 0, every write scans unless another thread
    /// is doing so. It is extended on disks where scans are slow.
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
///
/// Threads share it, and `tally` is never locked during file operations, so that only a thread that
/// needs room waits for another one's scan or eviction. Locks are taken in the order of the fields.
#[derive(Debug)]
pub(super) struct SizeBudget {
    limits: Limits,
    /// Held during a scan.
    scanning: Mutex<()>,
    /// Held during an eviction, so that threads do not evict more than they need.
    evicting: Mutex<()>,
    tally: Mutex<Tally>,
}

#[derive(Debug)]
struct Tally {
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
    /// Number of scans that have started.
    scans: u64,
    /// During a scan, the entries that this run has written, with their sizes, and removed: the
    /// scan may or may not have seen them.
    changes: Option<HashMap<Id, Option<u64>>>,
}

impl SizeBudget {
    /// Creates a budget and scans the folder.
    pub(super) fn new(folder: &Folder, limits: Limits) -> Self {
        let tally = Tally {
            bytes: 0,
            in_flight: 0,
            oldest: VecDeque::new(),
            due: Instant::now(),
            exhausted: false,
            scans: 0,
            changes: None,
        };
        let (scanning, evicting) = (Mutex::default(), Mutex::default());
        let budget = Self { limits, scanning, evicting, tally: Mutex::new(tally) };
        budget.scan(folder);
        budget
    }

    /// Returns the size of the entries as far as this run knows, bytes.
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.tally).bytes
    }

    /// Counts all entries again, or waits for a thread that starts to do so after this call. A scan
    /// already in progress does not suffice: it may have counted entries removed since.
    pub(super) fn scan(&self, folder: &Folder) {
        let started = lock(&self.tally).scans;
        self.scan_after(folder, started);
    }

    /// Waits for a scan in progress and counts all entries again, unless more than `started` scans
    /// have started by then.
    fn scan_after(&self, folder: &Folder, started: u64) {
        let turn = lock(&self.scanning);
        if lock(&self.tally).scans == started {
            self.scan_now(&turn, || folder.scan());
        }
    }

    /// Counts all entries again if this is due and no other thread is doing so. Returns whether it
    /// did.
    fn scan_if_due(&self, folder: &Folder) -> bool {
        if Instant::now() < lock(&self.tally).due {
            return false;
        }
        let turn = match self.scanning.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.scan_now(&turn, || folder.scan());
        true
    }

    /// Counts all entries again, as listed by `list`.
    fn scan_now(&self, _turn: &MutexGuard<'_, ()>, list: impl FnOnce() -> Vec<Found>) {
        let start = Instant::now();
        lock(&self.tally).begin();
        let mut found = list();
        found.sort_unstable_by_key(|entry| (entry.used, entry.id));
        let rescan = self.limits.rescan;
        let slow = (start.elapsed() * SCAN_SHARE).min(rescan.saturating_mul(MAX_STRETCH));
        // No thread is between choosing an entry to evict and counting it as removed.
        let _no_eviction = lock(&self.evicting);
        let mut tally = lock(&self.tally);
        tally.replace(found);
        tally.due = start + rescan.max(slow);
    }

    /// Reserves `bytes` for a file to be written; must be followed by [`SizeBudget::settle`]. With
    /// `evict`, entries that are not `pinned` are evicted to make room, the least recently used
    /// first.
    pub(super) fn admit(
        &self,
        folder: &Folder,
        bytes: u64,
        evict: bool,
        pinned: impl Fn(&Id) -> bool,
    ) -> Result<(), Refusal> {
        // Nothing is evicted for a file that the disk has no space for.
        self.check_disk(folder, bytes)?;
        self.make_room(folder, bytes, evict, pinned)?;
        // Other threads may have passed the first check at the same time. Now that `in_flight`
        // includes this file, the last of them to reserve sees the files of all others.
        let checked = self.check_disk(folder, 0);
        if checked.is_err() {
            lock(&self.tally).release(bytes);
        }
        checked
    }

    /// Reserves `bytes` within the limit on the size of all entries.
    fn make_room(
        &self,
        folder: &Folder,
        bytes: u64,
        evict: bool,
        pinned: impl Fn(&Id) -> bool,
    ) -> Result<(), Refusal> {
        if bytes > self.limits.max_bytes {
            return Err(Refusal::Full);
        }
        let scanned = self.scan_if_due(folder);
        if self.reserve(folder, bytes, evict, &pinned) {
            return Ok(());
        }
        if !scanned {
            if lock(&self.tally).exhausted {
                return Err(Refusal::Full);
            }
            self.scan(folder);
            if self.reserve(folder, bytes, evict, &pinned) {
                return Ok(());
            }
        }
        lock(&self.tally).exhausted = true;
        Err(Refusal::Full)
    }

    /// Ends the reservation of an admitted file; `written` says whether writing succeeded.
    pub(super) fn settle(&self, id: &Id, bytes: u64, written: bool) {
        let mut tally = lock(&self.tally);
        tally.release(bytes);
        if written {
            tally.bytes += bytes;
            tally.record(id, Some(bytes));
        }
    }

    /// Subtracts the size of an entry that was removed.
    pub(super) fn forget(&self, id: &Id, bytes: u64) {
        let mut tally = lock(&self.tally);
        // Saturating: another run's entry may not have been counted yet.
        tally.bytes = tally.bytes.saturating_sub(bytes);
        tally.record(id, None);
    }

    /// Reserves `bytes`, for which entries are evicted if necessary. Returns whether they fit.
    fn reserve(
        &self,
        folder: &Folder,
        bytes: u64,
        evict: bool,
        pinned: &impl Fn(&Id) -> bool,
    ) -> bool {
        let max = self.limits.max_bytes;
        if lock(&self.tally).reserve(bytes, max) {
            return true;
        }
        if !evict {
            return false;
        }
        let _turn = lock(&self.evicting);
        loop {
            let oldest = {
                let mut tally = lock(&self.tally);
                if tally.reserve(bytes, max) {
                    return true;
                }
                tally.oldest.pop_front()
            };
            let Some(entry) = oldest else { return false };
            if !pinned(&entry.id) {
                self.evict(folder, &entry);
            }
        }
    }

    fn evict(&self, folder: &Folder, entry: &Found) {
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
            _ => self.forget(&entry.id, entry.bytes),
        }
    }

    /// Checks that the disk has space for `bytes` in addition to the files in flight.
    fn check_disk(&self, folder: &Folder, bytes: u64) -> Result<(), Refusal> {
        // Read before the free space, so that a file settled in between counts twice rather than
        // not at all.
        let in_flight = lock(&self.tally).in_flight;
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
        let wanted = bytes.saturating_add(in_flight).saturating_add(reserve);
        if free < wanted { Err(Refusal::LowDisk { free, reserve }) } else { Ok(()) }
    }
}

impl Tally {
    /// Reserves `bytes` if they fit. Returns whether they do.
    fn reserve(&mut self, bytes: u64, max_bytes: u64) -> bool {
        let fits = self.bytes.saturating_add(self.in_flight).saturating_add(bytes) <= max_bytes;
        if fits {
            self.in_flight += bytes;
        }
        fits
    }

    /// Ends a reservation of `bytes`.
    fn release(&mut self, bytes: u64) {
        self.in_flight =
            self.in_flight.checked_sub(bytes).expect("each reservation is released once");
    }

    fn record(&mut self, id: &Id, bytes: Option<u64>) {
        if let Some(changes) = &mut self.changes {
            changes.insert(*id, bytes);
        }
    }

    /// Begins a scan; must be called before the entries are listed.
    fn begin(&mut self) {
        self.changes = Some(HashMap::new());
        self.scans += 1;
    }

    /// Ends a scan that found these entries, oldest first.
    fn replace(&mut self, mut found: Vec<Found>) {
        let changes = self.changes.take().expect("a scan has begun, and only one at a time");
        found.retain(|entry| !changes.contains_key(&entry.id));
        let written: u64 = changes.values().flatten().sum();
        self.bytes = found.iter().map(|entry| entry.bytes).sum::<u64>() + written;
        self.oldest = found.into();
        self.exhausted = false;
    }
}

#[cfg(test)]
mod tests;
