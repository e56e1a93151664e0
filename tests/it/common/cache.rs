//! Frame caches for tiny made-up clips.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use polyview::data::cache::{FrameCache, Key, Limits};
use polyview::data::sampling::WindowSpec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

pub const WINDOW: WindowSpec = WindowSpec::frames(67, 82, 15.0, 2);
pub const SIZE: [usize; 2] = [8, 6];
pub const FRAMES: usize = 2 * 8 * 6 * 3;
pub const HEADER: usize = 40;
/// Size of an entry's file in bytes.
pub const ENTRY: u64 = (HEADER + FRAMES) as u64;

/// Returns limits with space for `clips` clips and no disk reserve; the folder is rescanned every time.
pub fn space_for(clips: u64) -> Limits {
    Limits { max_bytes: clips * ENTRY, min_free: 0, min_free_share: 0.0, rescan: Duration::ZERO }
}

/// Clip files of one byte each, and a folder for the cache.
pub struct Fixture {
    pub dir: TempDir,
    pub keys: Vec<Key>,
}

impl Fixture {
    pub fn new(clips: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let keys = make_keys(dir.path(), clips);
        Self { dir, keys }
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub fn open(&self, clips: u64) -> FrameCache {
        FrameCache::open_within(&self.folder(), space_for(clips)).expect("the folder can be made")
    }

    pub fn entry(&self, clip: usize) -> PathBuf {
        entry(&self.folder(), &self.keys[clip])
    }
}

pub fn make_keys(dir: &Path, clips: usize) -> Vec<Key> {
    let key = |clip| {
        let path = dir.join(format!("{clip}.mp4"));
        if !path.exists() {
            fs::write(&path, b"x").expect("the folder is writable");
        }
        Key::new(&path, &WINDOW, SIZE).expect("the clip exists")
    };
    (0..clips).map(key).collect()
}

pub fn entry(folder: &Path, key: &Key) -> PathBuf {
    let name = key.to_string();
    folder.join(&name[..2]).join(format!("{name}.frames"))
}

/// Returns frames that are unique to the clip.
pub fn frames(clip: usize) -> Vec<u8> {
    let mut bytes = vec![0; FRAMES];
    ChaCha8Rng::seed_from_u64(clip as u64).fill(&mut bytes[..]);
    bytes
}

/// Reads a clip as training does: from the cache, or else by "decoding" and storing it. Returns whether
/// it was a hit.
pub fn visit(cache: &FrameCache, keys: &[Key], clip: usize) -> bool {
    let mut out = vec![0; FRAMES];
    let hit = cache.read(&keys[clip], &mut out);
    if hit {
        assert_eq!(out, frames(clip), "clip {clip} has other frames");
    } else {
        cache.write(&keys[clip], &frames(clip));
    }
    hit
}

/// Lists the cache's files with this extension, which includes the dot.
pub fn files(folder: &Path, extension: &str) -> BTreeSet<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("the folder can be listed");
        entries.map(|entry| entry.expect("the folder can be listed").path()).collect()
    };
    let subfolders = list(folder).into_iter().filter(|path| path.is_dir());
    let files = subfolders.flat_map(|path| list(&path));
    files.filter(|path| path.to_string_lossy().ends_with(extension)).collect()
}

pub const HOUR: Duration = Duration::from_secs(3600);
