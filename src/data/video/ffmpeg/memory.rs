//! Properties of clips that this process has decoded once, so that it need not do so again.

use std::collections::HashMap;
use std::fs::{canonicalize, metadata};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::super::super::clip::ClipInfo;

/// Clips that are remembered, some megabytes.
const MAX_CLIPS: usize = 16384;

/// A file as it was.
#[derive(PartialEq, Clone)]
struct Version {
    length: u64,
    modified: SystemTime,
}

static CLIPS: LazyLock<Mutex<HashMap<PathBuf, (Version, ClipInfo)>>> =
    LazyLock::new(Mutex::default);

/// A clip's entry.
pub(super) struct Entry {
    path: PathBuf,
    version: Version,
}

impl Entry {
    /// The entry of the file as it is now; `None` where the system does not tell.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let path = canonicalize(path).ok()?;
        let metadata = metadata(&path).ok()?;
        let version = Version { length: metadata.len(), modified: metadata.modified().ok()? };
        Some(Self { path, version })
    }

    /// What is known of it.
    pub(super) fn recall(&self) -> Option<ClipInfo> {
        let clips = clips();
        let (version, info) = clips.get(&self.path)?;
        (*version == self.version).then(|| info.clone())
    }

    /// Stores what was found.
    pub(super) fn store(self, info: ClipInfo) {
        let mut clips = clips();
        if clips.len() >= MAX_CLIPS {
            clips.clear();
        }
        clips.insert(self.path, (self.version, info));
    }
}

/// Forgets a clip that was not as remembered.
pub(super) fn forget(path: &Path) {
    if let Ok(path) = canonicalize(path) {
        clips().remove(&path);
    }
}

fn clips() -> MutexGuard<'static, HashMap<PathBuf, (Version, ClipInfo)>> {
    // Each change is a single one, so that a panic elsewhere leaves nothing half done.
    CLIPS.lock().unwrap_or_else(PoisonError::into_inner)
}
