//! How much may be kept: the bound over all entries, who goes when it is reached, and what must
//! stay free on the disk.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use super::folder::{Folder, Found};
use super::key::Id;

/// On a slow disk a scan may take one part in so many of the time, and the next one comes so many
/// times later than asked for at most.
const SCAN_SHARE: u32 = 50;
const MOST_LATE: u32 = 20;

/// What the cache keeps within.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes of all entries together.
    pub max_bytes: u64,
    /// Bytes that stay free on the disk at least: checkpoints are written to the same one.
    pub min_free: u64,
    /// Share of the disk that stays free at least, 0 to 1; the larger of the two counts.
    pub min_free_share: f64,
    /// After how long a write counts other runs' entries again; 0: every write does. On a disk where
    /// counting is slow it is longer.
    pub rescan: Duration,
}

impl Limits {
    /// Entries of `max_bytes` together; 2 GB and 5 % of the disk stay free; a count every 30 s.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            min_free: 2_000_000_000,
            min_free_share: 0.05,
            rescan: Duration::from_secs(30),
        }
    }
}

/// Why a clip is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bound is reached, and nothing may be thrown out.
    Full,
    /// The disk would have less than this free.
    LowDisk {
        /// Bytes free now.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
}

/// Keeps count. Others write and remove too, so the count is an estimate between two scans.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    /// Bytes of the finished entries.
    bytes: u64,
    /// Bytes of the entries that this run is writing.
    in_flight: u64,
    /// What the last scan found, oldest first, less what was thrown out since.
    oldest: VecDeque<Found>,
    /// When the next scan is due.
    due: Instant,
    /// The last scan gave no room, so no further one is made before its time.
    exhausted: bool,
}

impl Room {
    /// Counts what is there.
    pub fn new(folder: &Folder, limits: Limits) -> Self {
        let mut room = Self {
            limits,
            bytes: 0,
            in_flight: 0,
            oldest: VecDeque::new(),
            due: Instant::now(),
            exhausted: false,
        };
        room.scan(folder);
        room
    }

    /// Bytes of the entries as far as this run knows.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts anew, as others write and remove too.
    pub fn scan(&mut self, folder: &Folder) {
        let start = Instant::now();
        let mut found = folder.scan();
        found.sort_unstable_by_key(|entry| (entry.used, entry.id));
        self.bytes = found.iter().map(|entry| entry.bytes).sum();
        self.oldest = found.into();
        let rescan = self.limits.rescan;
        let slow = (start.elapsed() * SCAN_SHARE).min(rescan.saturating_mul(MOST_LATE));
        self.due = start + rescan.max(slow);
        self.exhausted = false;
    }

    /// Sets `bytes` aside for a file to be written, for which [`Room::settle`] must follow.
    /// Entries that are not `kept` go for it, the least recently used first; none does unless
    /// `evict`.
    pub fn admit(
        &mut self,
        folder: &Folder,
        bytes: u64,
        evict: bool,
        kept: impl Fn(&Id) -> bool,
    ) -> Result<(), Refusal> {
        self.check_disk(folder, bytes)?;
        if bytes > self.limits.max_bytes {
            return Err(Refusal::Full);
        }
        if Instant::now() >= self.due {
            self.scan(folder);
        }
        let mut fits = self.make_room(folder, bytes, evict, &kept);
        if !fits && !self.exhausted {
            self.scan(folder);
            fits = self.make_room(folder, bytes, evict, &kept);
            self.exhausted = !fits;
        }
        if !fits {
            return Err(Refusal::Full);
        }
        self.in_flight += bytes;
        Ok(())
    }

    /// Says what became of an admitted file.
    pub fn settle(&mut self, bytes: u64, written: bool) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if written {
            self.bytes += bytes;
        }
    }

    /// An entry of so many bytes was removed for another reason.
    pub fn forget(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn fits(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(self.in_flight).saturating_add(bytes) <= self.limits.max_bytes
    }

    fn make_room(
        &mut self,
        folder: &Folder,
        bytes: u64,
        evict: bool,
        kept: &impl Fn(&Id) -> bool,
    ) -> bool {
        while !self.fits(bytes) {
            if !evict {
                return false;
            }
            let Some(entry) = self.oldest.pop_front() else { return false };
            if !kept(&entry.id) {
                self.throw_out(folder, &entry);
            }
        }
        true
    }

    fn throw_out(&mut self, folder: &Folder, entry: &Found) {
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
            // A disk that does not tell is used until it says that it is full.
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
