//! Cache keys of clips.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::super::place::{Place, Reading};
use super::super::resize::Crop;
use super::super::sampling::WindowSpec;
use super::super::video::is_hidden;
use super::super::window::Window;

/// Version of the decoded frames. It must be incremented whenever the same file, window and size
/// can yield different bytes than before: after a change of a decoder, of the colour conversion, of
/// frame sampling or of resizing, in our own code or in a new version of a library. Entries of
/// other versions are no longer found and are the first to be evicted.
pub const DECODE_VERSION: u32 = 3;

/// Version of the entries' file format; entries of another version are not opened.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Identifies a clip's frames: 16 bytes of a SHA-256, so that two clips never share an id by
/// chance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(pub [u8; 16]);

impl Id {
    /// Parses the format that [`fmt::Display`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Lower case only: on some file systems capitals would name the same file.
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(digit) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The cache key of a clip's frames: a hash of everything that determines their bytes.
///
/// These are the file's identity, the sampling window, its position and the crop, the target rate,
/// T, H, W, [`DECODE_VERSION`] and the version of the entries' format. The identity of a video is
/// its canonical path, its length and its modification time in nanoseconds; that of a folder of
/// images is the folder's path and the name, length and modification time of every file in it that
/// is not hidden.
///
/// The content is not hashed: that would read every file in every epoch, which the cache is meant
/// to avoid. Thus, a file that is rewritten with the same length and a restored modification time
/// is not noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub(super) id: Id,
    pub(super) bytes: usize,
}

impl Key {
    /// Returns the key of the file or folder at `clip`, read in the middle, with frames of `size`
    /// `[H, W]`; `None` if the file's metadata cannot be read (the decoder will report why) or the
    /// size overflows.
    ///
    /// The key must be created before decoding: if the clip changes meanwhile, the frames are
    /// stored under the key of the old file.
    pub fn new(clip: &Path, window: &WindowSpec, size: [usize; 2]) -> Option<Self> {
        Self::reading(clip, window, &Reading::MIDDLE, size)
    }

    /// Like [`Key::new`], for a clip that is read as `reading` says. Also returns `None` if the
    /// window is drawn anew in each epoch, because its frames would not be requested again.
    pub fn reading(
        clip: &Path,
        window: &WindowSpec,
        reading: &Reading,
        size: [usize; 2],
    ) -> Option<Self> {
        let place = match (window.window.varies(), reading.place) {
            (true, Place::Drawn { .. }) => return None,
            (true, Place::Even { index, of }) => [index, of],
            (false, _) => [0, 1],
        };
        let [height, width] = size;
        let bytes = [height, width, 3]
            .iter()
            .try_fold(window.frames_per_clip, |product, &side| product.checked_mul(side))?;
        let mut hash = Sha256::new();
        hash.update(b"polyview frames");
        hash.update(FORMAT_VERSION.to_le_bytes());
        hash.update(DECODE_VERSION.to_le_bytes());
        let (start, end, name) = match window.window {
            Window::Frames { start, end } => (start, end, None),
            other => (usize::MAX, usize::MAX, Some(other.to_string())),
        };
        for number in [start, end, window.frames_per_clip, height, width] {
            hash.update((number as u64).to_le_bytes());
        }
        hash.update(window.target_fps.to_bits().to_le_bytes());
        // Nothing is added in the usual case, so that existing entries stay valid.
        if let Some(name) = name {
            add_name(name.into(), &mut hash);
        }
        if (place, reading.crop) != ([0, 1], Crop::Middle) {
            add_name(format!("{place:?} {:?}", reading.crop).into(), &mut hash);
        }
        identify(clip, &mut hash).ok()?;
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Some(Self { id: Id(id), bytes })
    }

    /// Returns the size of the frames in bytes, T·H·W·3.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Hashes everything that distinguishes a file or folder from others and from its own earlier
/// states.
fn identify(clip: &Path, hash: &mut Sha256) -> io::Result<()> {
    // Some Windows drives (network, RAM) cannot resolve links.
    let path = fs::canonicalize(clip).or_else(|_| std::path::absolute(clip))?;
    let about = fs::metadata(&path)?;
    add_name(path.into_os_string(), hash);
    if !about.is_dir() {
        hash.update(b"file");
        return add_state(&about, hash);
    }
    hash.update(b"folder");
    // Every file that is not hidden, not only images: the decoder decides which extensions it reads.
    // Hidden ones, such as `.DS_Store`, may change without effect.
    let mut files = Vec::new();
    for entry in fs::read_dir(clip)? {
        let entry = entry?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        // Not the entry's own metadata: links are followed.
        match fs::metadata(entry.path()) {
            Ok(about) if about.is_file() => files.push((entry.file_name(), about)),
            Ok(_) => {}
            // The decoder skips dangling links.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, about) in files {
        add_name(name, hash);
        add_state(&about, hash)?;
    }
    Ok(())
}

/// Hashes a name, prefixed with its length so that two names cannot be confused with one.
fn add_name(name: OsString, hash: &mut Sha256) {
    let bytes = name.as_encoded_bytes();
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn add_state(about: &Metadata, hash: &mut Sha256) -> io::Result<()> {
    let nanoseconds = match about.modified()?.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    hash.update(about.len().to_le_bytes());
    hash.update(nanoseconds.to_le_bytes());
    Ok(())
}
