//! Keeps the frames of clips after decoding, windowing and resizing, so that each clip is decoded
//! once ever, not once per epoch and run.
//!
//! The entries are files in one folder that several runs may share: `key` names them, `entry`
//! writes and checks them, `folder` knows where they lie, `room` bounds them. Trouble with the
//! cache costs time, never a training run and never a wrong byte.

mod entry;
mod folder;
mod key;
mod room;
mod stats;
mod trouble;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use entry::Fault;
use folder::Folder;
use key::Id;
use room::{Refusal, Room};
use stats::{Bytes, Counts, count};
use trouble::{Kind, Troubles, lock};

pub use key::{DECODE_VERSION, Key};
pub use room::Limits;
pub use stats::Stats;
pub use trouble::CacheError;

/// A temporary file that no write has touched for so long is a dead process's.
const STRAY: Duration = Duration::from_secs(60 * 60);

/// What an entry is to this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The run has said that it will ask for it.
    Expected,
    /// The run has read or written it.
    Held,
}

/// Frames of clips in files, `[T, H, W, 3]` uint8. Threads share one, and runs share the folder.
///
/// When it is full, the least recently used entries go, but never one that this run has used or
/// has announced by [`FrameCache::expect`]: an epoch visits every clip once, so a plain
/// "least recently used" would throw out each entry just before its turn comes. A data set of twice
/// the size thus has every second clip kept.
#[derive(Debug)]
pub struct FrameCache {
    folder: Folder,
    limits: Limits,
    room: Mutex<Room>,
    /// This run's clips. Never locked while waiting for `room`, so reading does not wait for a scan.
    ours: Mutex<HashMap<Id, Standing>>,
    troubles: Troubles,
    /// Nothing more is written: the disk is full.
    read_only: AtomicBool,
    counts: Counts,
}

impl FrameCache {
    /// Opens the folder, which is made if need be; all entries together take `max_bytes` at most.
    ///
    /// # Errors
    /// [`CacheError`] if nothing can be written there.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Self, CacheError> {
        Self::open_within(dir, Limits::new(max_bytes))
    }

    /// Opens the folder with other limits than the usual ones.
    ///
    /// # Errors
    /// [`CacheError`] if nothing can be written there.
    pub fn open_within(dir: &Path, limits: Limits) -> Result<Self, CacheError> {
        let folder = Folder::open(dir)
            .map_err(|source| CacheError::Open { path: dir.to_owned(), source })?;
        folder.remove_strays(STRAY);
        let room = Mutex::new(Room::new(&folder, limits));
        Ok(Self {
            folder,
            limits,
            room,
            ours: Mutex::default(),
            troubles: Troubles::default(),
            read_only: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    /// Announces clips that this run will ask for, so that what earlier runs have kept of them is
    /// not thrown out for the first ones of the run.
    pub fn expect(&self, keys: impl IntoIterator<Item = Key>) {
        let mut ours = lock(&self.ours);
        for key in keys {
            ours.entry(key.id).or_insert(Standing::Expected);
        }
    }

    /// Fills `out`, of T·H·W·3 bytes. False if the clip is not there or `out` has another length;
    /// `out` holds nothing of use then. A damaged entry is removed, so that the clip is kept anew.
    pub fn read(&self, key: &Key, out: &mut [u8]) -> bool {
        let path = self.folder.entry(&key.id);
        let fault = if out.len() == key.bytes {
            match entry::read(&path, key, out) {
                Ok(()) => {
                    self.hold(key, &path);
                    count(&self.counts.hits);
                    return true;
                }
                Err(fault) => fault,
            }
        } else {
            log::debug!("{key}: {} bytes of frames into {} bytes", key.bytes, out.len());
            Fault::Missing
        };
        count(&self.counts.misses);
        match fault {
            Fault::Missing => {}
            Fault::Damaged(reason) => self.remove_damaged(&path, reason),
            Fault::Io(error) => self.troubles.tell(Kind::Unreadable, || {
                format!("{}: cannot be read: {error}: the clip is decoded", path.display())
            }),
        }
        false
    }

    /// Keeps a clip's frames, T·H·W·3 bytes. Whatever goes wrong is at most a warning, one for each
    /// kind of trouble.
    pub fn write(&self, key: &Key, frames: &[u8]) {
        if frames.len() != key.bytes {
            log::debug!("{key}: {} bytes of frames, not {}", frames.len(), key.bytes);
            return;
        }
        if !self.read_only.load(Ordering::Relaxed)
            && let Err(error) = self.try_write(key, frames)
        {
            self.tell_write_error(&error);
        }
    }

    /// What the cache has done so far.
    pub fn stats(&self) -> Stats {
        self.counts.stats(lock(&self.room).bytes())
    }

    /// The warnings given so far, at most one for each kind of trouble.
    pub fn warnings(&self) -> Vec<String> {
        self.troubles.told()
    }

    fn try_write(&self, key: &Key, frames: &[u8]) -> io::Result<()> {
        let path = self.folder.entry(&key.id);
        let bytes = entry::file_bytes(key);
        if self.folder.restore()? {
            self.tell_removed();
            lock(&self.room).scan(&self.folder);
        } else if fs::metadata(&path).is_ok_and(|about| about.len() == bytes) {
            // Another thread or run was quicker.
            self.hold(key, &path);
            return Ok(());
        }
        // A clip that was kept before and is gone was thrown out by another run. To throw out that
        // one's clips in return would go on for ever.
        let evict = lock(&self.ours).get(&key.id) != Some(&Standing::Held);
        let kept = |id: &Id| lock(&self.ours).contains_key(id);
        let admitted = lock(&self.room).admit(&self.folder, bytes, evict, kept);
        if let Err(refusal) = admitted {
            count(&self.counts.refused);
            self.tell_refusal(refusal);
            return Ok(());
        }
        let written = entry::write(&self.folder, key, frames);
        // Before the count, for no thread may throw it out meanwhile.
        if written.is_ok() {
            lock(&self.ours).insert(key.id, Standing::Held);
            count(&self.counts.written);
        }
        lock(&self.room).settle(bytes, written.is_ok());
        written
    }

    /// Makes an entry this run's own. The first time, its file's time says so to other runs.
    fn hold(&self, key: &Key, path: &Path) {
        match lock(&self.ours).entry(key.id) {
            Entry::Occupied(place) if *place.get() == Standing::Held => return,
            Entry::Occupied(mut place) => *place.get_mut() = Standing::Held,
            Entry::Vacant(place) => drop(place.insert(Standing::Held)),
        }
        // Windows wants a handle that may write.
        let touched = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            log::debug!("{}: {error}", path.display());
        }
    }

    fn remove_damaged(&self, path: &Path, reason: &str) {
        count(&self.counts.damaged);
        self.troubles.tell(Kind::Damaged, || {
            format!(
                "{}: damaged: {reason}: removed, and its clip is decoded again (other damaged \
                 entries are not named)",
                path.display()
            )
        });
        let bytes = fs::metadata(path).map_or(0, |about| about.len());
        match fs::remove_file(path) {
            Ok(()) => lock(&self.room).forget(bytes),
            Err(error) => log::debug!("{}: {error}", path.display()),
        }
    }

    fn tell_refusal(&self, refusal: Refusal) {
        let dir = self.folder.root().display();
        match refusal {
            Refusal::Full => self.troubles.tell(Kind::Full, || {
                let held = lock(&self.ours).values().filter(|s| **s == Standing::Held).count();
                format!(
                    "{dir}: full with {held} clips of this run: the others are decoded in every \
                     epoch (--cache-size, now {}, can be made larger)",
                    Bytes(self.limits.max_bytes)
                )
            }),
            Refusal::LowDisk { free, reserve } => self.troubles.tell(Kind::LowDisk, || {
                format!(
                    "{dir}: {} are free on its disk, and {} stay free for checkpoints: no more \
                     clips are kept (make room, or give --cache another disk)",
                    Bytes(free),
                    Bytes(reserve)
                )
            }),
        }
    }

    fn tell_removed(&self) {
        let dir = self.folder.root().display();
        self.troubles.tell(Kind::Removed, || {
            format!("{dir}: was removed during the run: it is made and filled anew")
        });
    }

    fn tell_write_error(&self, error: &io::Error) {
        use io::ErrorKind::{
            FileTooLarge, NotFound, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
        };
        let dir = self.folder.root().display();
        match error.kind() {
            // Removed between two steps; the next write makes it anew.
            NotFound => self.tell_removed(),
            StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem => {
                self.read_only.store(true, Ordering::Relaxed);
                self.troubles.tell(Kind::NoSpace, || {
                    format!(
                        "cannot write to {dir}: {error}: going on without writing (make room or \
                         give --cache-size or --cache)"
                    )
                });
            }
            _ => self.troubles.tell(Kind::Unwritable, || {
                format!("cannot write to {dir}: {error}: such clips are decoded again")
            }),
        }
    }
}
