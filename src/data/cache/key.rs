//! Under which name a clip's frames are kept.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::super::sampling::WindowSpec;
use super::super::video::is_hidden;

/// Raise it whenever the same file, window and size can give other bytes than before: a change of
/// a decoder, of the colour conversion, of the choice of frames or of the resizing, be it our own
/// code or a library's new version. Entries of other versions are found no more and are the first
/// to be thrown out.
pub const DECODE_VERSION: u32 = 1;

/// Version of an entry's form in its file; entries of another version are not even opened.
pub(super) const FORM_VERSION: u32 = 1;

/// Names a clip's frames: 16 bytes of a SHA-256, so that two clips never share one by chance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(pub [u8; 16]);

impl Id {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        // Capitals are none of ours; on some file systems they would name the same file.
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

/// What a clip's frames are kept under: a hash of all that decides their bytes.
///
/// That is the file's identity, the window, the target rate, T, H, W, [`DECODE_VERSION`] and the
/// version of the entry's form. The identity of a video is its absolute path without links, its
/// length and its modification time in nanoseconds; that of a folder of images is the folder's path
/// and the name, length and time of every file in it whose name begins with no dot.
///
/// The content is not hashed: that would read every file in every epoch, which is part of what the
/// cache saves. So a file rewritten to the same length with its old time put back is not noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub(super) id: Id,
    pub(super) bytes: usize,
}

impl Key {
    /// The key of the file or folder at `clip` with frames of `size` `[H, W]`; `None` if the system
    /// cannot tell about it (the decoder will say why) or the size is beyond this machine.
    ///
    /// Make it before decoding: if the clip changes meanwhile, the frames are then kept under the
    /// key of a file that is no more.
    pub fn new(clip: &Path, window: &WindowSpec, size: [usize; 2]) -> Option<Self> {
        let [height, width] = size;
        let bytes = [height, width, 3]
            .iter()
            .try_fold(window.frames_per_clip, |product, &side| product.checked_mul(side))?;
        let mut hash = Sha256::new();
        hash.update(b"polyview frames");
        hash.update(FORM_VERSION.to_le_bytes());
        hash.update(DECODE_VERSION.to_le_bytes());
        for number in [window.start_frame, window.end_frame, window.frames_per_clip, height, width]
        {
            hash.update((number as u64).to_le_bytes());
        }
        hash.update(window.target_fps.to_bits().to_le_bytes());
        identify(clip, &mut hash).ok()?;
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Some(Self { id: Id(id), bytes })
    }

    /// Bytes of the frames, T·H·W·3.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Adds what tells this file or folder from others and from its own earlier states.
fn identify(clip: &Path, hash: &mut Sha256) -> io::Result<()> {
    // Some drives of Windows (network, RAM) cannot be asked for the path without links.
    let path = fs::canonicalize(clip).or_else(|_| std::path::absolute(clip))?;
    let about = fs::metadata(&path)?;
    add_name(path.into_os_string(), hash);
    if !about.is_dir() {
        hash.update(b"file");
        return add_state(&about, hash);
    }
    hash.update(b"folder");
    // Every file, not images alone: which endings count is the decoder's affair. What it never takes
    // may change without effect, such as the `.DS_Store` of a folder that was looked at.
    let mut files = Vec::new();
    for entry in fs::read_dir(clip)? {
        let entry = entry?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        // Not the entry's own metadata: of a link, the file behind it counts.
        match fs::metadata(entry.path()) {
            Ok(about) if about.is_file() => files.push((entry.file_name(), about)),
            Ok(_) => {}
            // The decoder passes over a link to nothing.
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

/// The length goes first, so that two names never run into each other.
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
