//! One clip's frames in a file: a header that says what they are, then their bytes.
//!
//! | offset | bytes | content, numbers little-endian |
//! |-------:|------:|--------------------------------|
//! | 0      | 8     | `PVFRAMES`                     |
//! | 8      | 4     | version of this form           |
//! | 12     | 16    | the key                        |
//! | 28     | 8     | bytes of the frames            |
//! | 36     | 4     | CRC-32C of the frames          |
//! | 40     |       | the frames, `[T, H, W, 3]`     |
//!
//! The file is read, not mapped: a mapping needs `unsafe`, ends the program by a signal when
//! another process cuts the file, and would save no copy, for the frames go into the batch's one
//! buffer anyway.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::folder::Folder;
use super::key::{FORM_VERSION, Key};

const MAGIC: [u8; 8] = *b"PVFRAMES";
const HEADER: usize = 40;
/// Where the header's checksum of the frames lies; what stands before it follows from the key.
const CRC: usize = 36;
/// Bytes read before they are checked: they must still lie in the core's own cache then.
const PIECE: usize = 256 << 10;

/// Why an entry gave no frames. The buffer holds nothing of use then.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is none.
    Missing,
    /// There is one, but not with these frames whole.
    Damaged(&'static str),
    /// The system could not read it.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends too early"),
            _ => Self::Io(error),
        }
    }
}

/// Bytes of a key's file.
pub(super) fn file_bytes(key: &Key) -> u64 {
    HEADER as u64 + key.bytes as u64
}

/// The header's bytes before the checksum.
fn header(key: &Key) -> [u8; CRC] {
    let mut header = [0; CRC];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORM_VERSION.to_le_bytes());
    header[12..28].copy_from_slice(&key.id.0);
    header[28..].copy_from_slice(&(key.bytes as u64).to_le_bytes());
    header
}

/// Fills `out`, which has the key's number of bytes.
pub(super) fn read(path: &Path, key: &Key, out: &mut [u8]) -> Result<(), Fault> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != file_bytes(key) {
        return Err(Fault::Damaged("its length is wrong"));
    }
    let mut found = [0; HEADER];
    file.read_exact(&mut found)?;
    let (start, crc) = found.split_at(CRC);
    if start != header(key) {
        return Err(Fault::Damaged("its header is not this clip's"));
    }
    let mut sum = 0;
    for piece in out.chunks_mut(PIECE) {
        file.read_exact(piece)?;
        sum = crc32c::crc32c_append(sum, piece);
    }
    if crc != sum.to_le_bytes() {
        return Err(Fault::Damaged("its checksum does not fit its frames"));
    }
    Ok(())
}

/// Writes an entry in one piece: to a temporary name, then renamed. It is not synced: what a power
/// cut leaves half-written, the checksum finds, and a sync per clip would slow the first epoch.
pub(super) fn write(folder: &Folder, key: &Key, frames: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = folder.temporary(&key.id)?;
    file.write_all(&header(key))?;
    file.write_all(&crc32c::crc32c(frames).to_le_bytes())?;
    file.write_all(frames)?;
    drop(file);
    temporary.rename(&folder.entry(&key.id))
}
