//! A cache on disk for the frames of clips after decoding, sampling and resizing, so that each clip is
//! decoded once, not once per epoch and run.
//!
//! The entries are files in a folder that several runs may share: `key` names them, `entry` writes
//! and verifies them, `folder` locates them, `budget` limits their size. Errors of the cache cost
//! time, but never end a training run and never give wrong frames.

mod budget;
mod entry;
mod folder;
mod key;
mod stats;
mod warnings;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use budget::{Refusal, SizeBudget};
use entry::ReadError;
use folder::Folder;
use key::Id;
use stats::{Counts, count};
use warnings::{Kind, Warnings, lock};

pub use budget::Limits;
pub use key::{DECODE_VERSION, Key};
pub use stats::Stats;
pub use warnings::CacheError;

use crate::units::ByteSize;

/// A temporary file that has not been written to for this long was left by a dead process.
const STALE: Duration = Duration::from_secs(60 * 60);

/// How this run uses an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The run has announced that it will read it.
    Expected,
    /// The run has read or written it.
    Held,
}

/// A cache of clips' frames, `[T, H, W, 3]` uint8. Threads share one cache, and runs may share its
/// folder.
///
/// When it is full, the least recently used entries are evicted, but never one that this run has used
/// or has announced with [`FrameCache::expect`]: an epoch visits every clip once, so plain LRU would
/// evict each entry just before it is needed again. Of a data set of twice the cache's size, every
/// second clip stays cached.
#[derive(Debug)]
pub struct FrameCache {
    folder: Folder,
    limits: Limits,
    budget: SizeBudget,
    /// This run's clips. Never locked while waiting for `budget`, so that reads do not wait for a
    /// scan.
    ours: Mutex<HashMap<Id, Use>>,
    warnings: Warnings,
    /// Whether nothing more is written because the disk is full.
    read_only: AtomicBool,
    counts: Counts,
}

impl FrameCache {
    /// Opens the folder, creating it if necessary; all entries together take at most `max_bytes`.
    ///
    /// # Errors
    /// [`CacheError`] if the folder is not writable.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Self, CacheError> {
        Self::open_within(dir, Limits::new(max_bytes))
    }

    /// Like [`FrameCache::open`], but with the given limits.
    ///
    /// # Errors
    /// [`CacheError`] if the folder is not writable.
    pub fn open_within(dir: &Path, limits: Limits) -> Result<Self, CacheError> {
        let folder = Folder::open(dir)
            .map_err(|source| CacheError::Open { path: dir.to_owned(), source })?;
        folder.remove_stale(STALE);
        let budget = SizeBudget::new(&folder, limits);
        Ok(Self {
            folder,
            limits,
            budget,
            ours: Mutex::default(),
            warnings: Warnings::default(),
            read_only: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    /// Announces clips that this run will read, so that their entries from earlier runs are not
    /// evicted in favour of the first clips of this run.
    pub fn expect(&self, keys: impl IntoIterator<Item = Key>) {
        let mut ours = lock(&self.ours);
        for key in keys {
            ours.entry(key.id).or_insert(Use::Expected);
        }
    }

    /// Fills `out`, of T·H·W·3 bytes. Returns false if the clip is not cached or `out` has another
    /// length; the content of `out` is undefined then. A damaged entry is removed, so that the clip
    /// can be cached again.
    pub fn read(&self, key: &Key, out: &mut [u8]) -> bool {
        let path = self.folder.entry(&key.id);
        let error = if out.len() == key.bytes {
            match entry::read(&path, key, out) {
                Ok(()) => {
                    self.hold(key, &path);
                    count(&self.counts.hits);
                    return true;
                }
                Err(error) => error,
            }
        } else {
            log::debug!("{key}: {} bytes of frames into {} bytes", key.bytes, out.len());
            ReadError::Missing
        };
        count(&self.counts.misses);
        match error {
            ReadError::Missing => {}
            ReadError::Damaged(reason) => self.remove_damaged(&key.id, &path, reason),
            ReadError::Io(error) => self.warnings.warn_once(Kind::Unreadable, || {
                format!("{}: cannot be read: {error}; the clip is decoded instead", path.display())
            }),
        }
        false
    }

    /// Caches a clip's frames, T·H·W·3 bytes. An error is only logged as a warning, once per kind
    /// of error.
    pub fn write(&self, key: &Key, frames: &[u8]) {
        if frames.len() != key.bytes {
            log::debug!("{key}: {} bytes of frames, not {}", frames.len(), key.bytes);
            return;
        }
        if !self.read_only.load(Ordering::Relaxed)
            && let Err(error) = self.try_write(key, frames)
        {
            self.warn_of_write_error(&error);
        }
    }

    /// Returns the hits, misses and sizes so far.
    pub fn stats(&self) -> Stats {
        self.counts.stats(self.budget.bytes())
    }

    /// Returns the warnings so far, at most one of each kind.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.all()
    }

    fn try_write(&self, key: &Key, frames: &[u8]) -> io::Result<()> {
        let path = self.folder.entry(&key.id);
        let bytes = entry::file_bytes(key);
        if self.folder.restore()? {
            self.warn_of_removal();
            self.budget.scan(&self.folder);
        } else if fs::metadata(&path).is_ok_and(|about| about.len() == bytes) {
            // Another thread or run was faster.
            self.hold(key, &path);
            return Ok(());
        }
        // A clip that was cached before and is gone was evicted by another run. Evicting that run's
        // clips in return would never end.
        let evict = lock(&self.ours).get(&key.id) != Some(&Use::Held);
        let pinned = |id: &Id| lock(&self.ours).contains_key(id);
        let admitted = self.budget.admit(&self.folder, bytes, evict, pinned);
        if let Err(refusal) = admitted {
            count(&self.counts.refused);
            self.warn_of_refusal(refusal);
            return Ok(());
        }
        let written = entry::write(&self.folder, key, frames);
        // The entry is held before it is counted, so that no other thread evicts it.
        if written.is_ok() {
            lock(&self.ours).insert(key.id, Use::Held);
            count(&self.counts.written);
        }
        self.budget.settle(&key.id, bytes, written.is_ok());
        written
    }

    /// Marks an entry as held by this run. The first time, its file's modification time is updated,
    /// which other runs see.
    fn hold(&self, key: &Key, path: &Path) {
        match lock(&self.ours).entry(key.id) {
            Entry::Occupied(entry) if *entry.get() == Use::Held => return,
            Entry::Occupied(mut entry) => *entry.get_mut() = Use::Held,
            Entry::Vacant(entry) => drop(entry.insert(Use::Held)),
        }
        // Windows requires a handle with write access.
        let touched = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            log::debug!("{}: {error}", path.display());
        }
    }

    fn remove_damaged(&self, id: &Id, path: &Path, reason: &str) {
        count(&self.counts.damaged);
        self.warnings.warn_once(Kind::Damaged, || {
            format!(
                "{}: damaged: {reason}; removed, its clip is decoded again (further damaged \
                 entries are not reported)",
                path.display()
            )
        });
        let bytes = fs::metadata(path).map_or(0, |about| about.len());
        match fs::remove_file(path) {
            Ok(()) => self.budget.forget(id, bytes),
            Err(error) => log::debug!("{}: {error}", path.display()),
        }
    }

    fn warn_of_refusal(&self, refusal: Refusal) {
        let dir = self.folder.root().display();
        match refusal {
            Refusal::Full => self.warnings.warn_once(Kind::Full, || {
                let held = lock(&self.ours).values().filter(|s| **s == Use::Held).count();
                format!(
                    "{dir}: full with {held} clips of this run; the others are decoded in every \
                     epoch (a cache larger than {} would hold more)",
                    ByteSize(self.limits.max_bytes)
                )
            }),
            Refusal::LowDisk { free, reserve } => self.warnings.warn_once(Kind::LowDisk, || {
                format!(
                    "{dir}: {} are free on its disk, of which {} are reserved for checkpoints; no \
                     more clips are cached (free some space, or move the cache to another disk)",
                    ByteSize(free),
                    ByteSize(reserve)
                )
            }),
        }
    }

    fn warn_of_removal(&self) {
        let dir = self.folder.root().display();
        self.warnings.warn_once(Kind::Removed, || {
            format!("{dir}: was removed during the run; it is created and filled again")
        });
    }

    fn warn_of_write_error(&self, error: &io::Error) {
        use io::ErrorKind::{
            FileTooLarge, NotFound, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
        };
        let dir = self.folder.root().display();
        match error.kind() {
            // Removed between two steps; the next write creates it again.
            NotFound => self.warn_of_removal(),
            StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem => {
                self.read_only.store(true, Ordering::Relaxed);
                self.warnings.warn_once(Kind::NoSpace, || {
                    format!(
                        "cannot write to {dir}: {error}; continuing without writing (free some \
                         space, limit the cache's size, or move it to another disk)"
                    )
                });
            }
            _ => self.warnings.warn_once(Kind::Unwritable, || {
                format!("cannot write to {dir}: {error}; such clips are decoded again")
            }),
        }
    }
}
