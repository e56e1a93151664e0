//! One run per folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Name of the lock in a save-dir.
const LOCK: &str = ".lock";

/// Holds a folder as long as it lives. The system lets go of it when the process dies, however it
/// dies, so a stale lock is none.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes the folder, which must exist.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`] with the other process's number, [`CheckpointError::Write`].
    pub fn take(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(LOCK);
        let fail = |source| CheckpointError::Write { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                let owner = match owner.trim() {
                    "" => "another run".to_owned(),
                    id => format!("another run (process {id})"),
                };
                return Err(CheckpointError::InUse { path: folder.to_owned(), owner });
            }
            // Some network file systems know no locks: better to train than to refuse.
            Err(TryLockError::Error(error)) => {
                log::warn!("{}: no lock can be had there: {error}", folder.display());
            }
        }
        let mut write = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            file.flush()
        };
        write().map_err(fail)?;
        Ok(Self { file, path: path.clone() })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Emptied, not removed: another process may have it open already, waiting.
        let emptied = self.file.set_len(0);
        if let Err(error) = emptied {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}
