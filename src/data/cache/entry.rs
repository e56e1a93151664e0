//! The file with one clip's frames: a header, then the bytes of the frames.
//!
//! | offset | bytes | content, numbers little-endian |
//! |-------:|------:|--------------------------------|
//! | 0      | 8     | `PVFRAMES`                     |
//! | 8      | 4     | version of this format         |
//! | 12     | 16    | the key                        |
//! | 28     | 8     | size of the frames in bytes    |
//! | 36     | 4     | CRC-32C of the frames          |
//! | 40     |       | the frames, `[T, H, W, 3]`     |
//!
//! The file is read, not mapped: a mapping needs `unsafe`, ends the program with a signal when another
//! process truncates the file, and would not save a copy, as the frames go into the batch's buffer
//! anyway.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::folder::Folder;
use super::key::{FORMAT_VERSION, Key};

const MAGIC: [u8; 8] = *b"PVFRAMES";
const HEADER: usize = 40;
/// Offset of the checksum in the header; everything before it follows from the key.
const CRC: usize = 36;
/// Number of bytes read before they are checksummed: small enough to stay in the core's cache.
const PIECE: usize = 256 << 10;

/// Why an entry could not be read. The content of the buffer is undefined then.
#[derive(Debug)]
pub(super) enum ReadError {
    /// There is no entry.
    Missing,
    /// The entry does not contain these frames intact.
    Damaged(&'static str),
    /// The operating system could not read it.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is truncated"),
            _ => Self::Io(error),
        }
    }
}

/// Returns the size of the file for a key, bytes.
pub(super) fn file_bytes(key: &Key) -> u64 {
    HEADER as u64 + key.bytes as u64
}

/// Returns the header's bytes before the checksum.
fn header(key: &Key) -> [u8; CRC] {
    let mut header = [0; CRC];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..28].copy_from_slice(&key.id.0);
    header[28..].copy_from_slice(&(key.bytes as u64).to_le_bytes());
    header
}

/// Fills `out`, whose length is the size in the key, from an entry.
pub(super) fn read(path: &Path, key: &Key, out: &mut [u8]) -> Result<(), ReadError> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != file_bytes(key) {
        return Err(ReadError::Damaged("its length is wrong"));
    }
    let mut found = [0; HEADER];
    file.read_exact(&mut found)?;
    let (start, crc) = found.split_at(CRC);
    if start != header(key) {
        return Err(ReadError::Damaged("its header does not match the clip"));
    }
    let mut sum = 0;
    for piece in out.chunks_mut(PIECE) {
        file.read_exact(piece)?;
        sum = crc32c::crc32c_append(sum, piece);
    }
    if crc != sum.to_le_bytes() {
        return Err(ReadError::Damaged("its checksum does not match its frames"));
    }
    Ok(())
}

/// Writes an entry atomically: to a temporary file, which is then renamed. The file is not synced:
/// the checksum detects a file half-written due to a power failure, and a sync per clip would slow
/// down the first epoch.
pub(super) fn write(folder: &Folder, key: &Key, frames: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = folder.temporary(&key.id)?;
    file.write_all(&header(key))?;
    file.write_all(&crc32c::crc32c(frames).to_le_bytes())?;
    file.write_all(frames)?;
    drop(file);
    temporary.rename(&folder.entry(&key.id))
}
