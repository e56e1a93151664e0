//! A lock that allows one run per folder.

#[cfg(not(windows))]
use std::fs::TryLockError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Name of the lock file.
const LOCK: &str = ".lock";

/// An exclusive lock on a folder, held until it is dropped. The operating system releases it when the
/// process dies in any way, so there are no stale locks.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Locks the folder, which must exist.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`] with the id of the process that holds it,
    /// [`CheckpointError::Write`].
    pub fn take(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(LOCK);
        let fail = |source| CheckpointError::Write { path: path.clone(), source };
        let Some(mut file) = open(&path).map_err(fail)? else {
            // Only for the message: the owner may be unknown.
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

/// Opens and locks the file; `None` if another process has locked it.
#[cfg(not(windows))]
fn open(path: &Path) -> io::Result<Option<File>> {
    let file = options().open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // Some network file systems do not support locks. Training without one is better than
        // refusing to train.
        Err(TryLockError::Error(error)) => {
            log::warn!("{}: cannot be locked: {error}", path.display());
        }
    }
    Ok(Some(file))
}

/// Opens and locks the file; `None` if another process has locked it.
///
/// A file lock of Windows would also keep others from reading the owner's process id, so the lock is
/// a share mode that lets nobody else open the file for writing.
#[cfg(windows)]
fn open(path: &Path) -> io::Result<Option<File>> {
    use std::os::windows::fs::OpenOptionsExt;

    const FILE_SHARE_READ: u32 = 1;
    const ERROR_SHARING_VIOLATION: i32 = 32;
    // A virus scanner may have it open for a moment, and so may the system after a run was killed.
    match super::patiently(|| options().share_mode(FILE_SHARE_READ).open(path)) {
        Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(None),
        opened => opened.map(Some),
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Truncated, not removed: another process may have it open already.
        let emptied = self.file.set_len(0);
        if let Err(error) = emptied {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}
