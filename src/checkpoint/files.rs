//! Writing files so that a reader never sees half of one.

use std::fs;
use std::io::Write;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;

use super::CheckpointError;

/// Writes a file in one piece: to a temporary name, synced, then renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || -> std::io::Result<()> {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

/// Writes what a serialiser made of one of the run's small files.
pub fn write_text(
    path: &Path,
    text: Result<String, impl std::error::Error>,
) -> Result<(), CheckpointError> {
    let text = text.map_err(|error| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    write_atomically(path, text.as_bytes())
}

/// Makes the folder and proves that it can be written, before hours of training depend on it.
pub fn prepare_folder(folder: &Path) -> Result<(), CheckpointError> {
    let fail = |source| CheckpointError::Write { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(fail)?;
    let probe = folder.join(".polyview-write-test");
    fs::write(&probe, b"").map_err(fail)?;
    fs::remove_file(&probe).map_err(fail)
}
