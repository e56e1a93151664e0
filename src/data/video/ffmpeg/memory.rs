//! Remembers the properties of clips that this process has already decoded, so that they need not
//! be decoded again.

use std::collections::HashMap;
use std::fs::{canonicalize, metadata};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::super::super::clip::ClipInfo;

/// Maximum number of remembered clips, which take a few megabytes.
const MAX_CLIPS: usize = 16384;

/// The state of a file, to detect changes.
#[derive(PartialEq, Clone)]
struct Version {
    length: u64,
    modified: SystemTime,
}

static CLIPS: LazyLock<Mutex<HashMap<PathBuf, (Version, ClipInfo)>>> =
    LazyLock::new(Mutex::default);

/// The key of a clip's entry.
pub(super) struct Entry {
    path: PathBuf,
    version: Version,
}

impl Entry {
    /// Returns the entry for the current state of the file; `None` if the state cannot be
    /// determined.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let path = canonicalize(path).ok()?;
        let metadata = metadata(&path).ok()?;
        let version = Version { length: metadata.len(), modified: metadata.modified().ok()? };
        Some(Self { path, version })
    }

    /// Returns the remembered properties, if the file has not changed.
    pub(super) fn recall(&self) -> Option<ClipInfo> {
        let clips = clips();
        let (version, info) = clips.get(&self.path)?;
        (*version == self.version).then(|| info.clone())
    }

    /// Remembers the properties of the clip.
    pub(super) fn store(self, info: ClipInfo) {
        let mut clips = clips();
        if clips.len() >= MAX_CLIPS {
            clips.clear();
        }
        clips.insert(self.path, (self.version, info));
    }
}

/// Forgets a clip whose content did not match its remembered properties.
pub(super) fn forget(path: &Path) {
    if let Ok(path) = canonicalize(path) {
        clips().remove(&path);
    }
}

fn clips() -> MutexGuard<'static, HashMap<PathBuf, (Version, ClipInfo)>> {
    // Each change is a single operation, so a panic cannot leave the map inconsistent.
    CLIPS.lock().unwrap_or_else(PoisonError::into_inner)
}
