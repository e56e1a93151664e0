//! One run per folder.

#[cfg(not(windows))]
use std::fs::TryLockError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
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
        let Some(mut file) = open(&path).map_err(fail)? else {
            // Only for the message, so one that cannot be read is no failure.
            let owner = fs::read_to_string(&path).unwrap_or_default();
            let owner = match owner.trim() {
                "" => "another run".to_owned(),
                id => format!("another run (process {id})"),
            };
            return Err(CheckpointError::InUse { path: folder.to_owned(), owner });
        };
        let mut write = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            file.flush()
        };
        write().map_err(fail)?;
        Ok(Self { file, path: path.clone() })
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
}

/// Opens the file and takes it for this process; `None` where another one has it.
#[cfg(not(windows))]
fn open(path: &Path) -> io::Result<Option<File>> {
    let file = options().open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // Some network file systems know no locks: better to train than to refuse.
        Err(TryLockError::Error(error)) => {
            log::warn!("{}: no lock can be had there: {error}", path.display());
        }
    }
    Ok(Some(file))
}

/// Opens the file and takes it for this process; `None` where another one has it.
///
/// A lock of Windows would keep others from reading the owner's number as well; so the lock is that
/// nobody else may open the file to write.
#[cfg(windows)]
fn open(path: &Path) -> io::Result<Option<File>> {
    use std::os::windows::fs::OpenOptionsExt;

    const FILE_SHARE_READ: u32 = 1;
    const ERROR_SHARING_VIOLATION: i32 = 32;
    // A scanner may have it open for a moment, and so may the system after a run was killed.
    match super::patiently(|| options().share_mode(FILE_SHARE_READ).open(path)) {
        Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(None),
        opened => opened.map(Some),
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
