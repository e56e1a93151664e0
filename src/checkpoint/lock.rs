//! A lock that allows one run per folder.

#[cfg(not(windows))]
use std::fs::TryLockError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Name of the lock file.
const LOCK: &str = ".lock";
/// Name of the file that a sweep locks while one of its runs uses the folder.
pub(super) const CLAIM: &str = ".sweep.lock";

/// An exclusive lock on a folder, released on drop. The operating system also releases it when the
/// process dies, so there are no stale locks.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
    locked: bool,
}

impl FolderLock {
    /// Locks the folder, which must exist.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`] with the id of the process that holds the lock,
    /// [`CheckpointError::Write`].
    pub fn take(folder: &Path) -> Result<Self, CheckpointError> {
        Self::take_file(folder, LOCK)
    }

    /// Claims the folder for a run that has yet to start and then takes the lock itself.
    ///
    /// # Errors
    /// Same as [`FolderLock::take`].
    pub(crate) fn claim(folder: &Path) -> Result<Self, CheckpointError> {
        let claim = Self::take_file(folder, CLAIM)?;
        // Fails if a run holds the lock without a claim: one started by hand, or left by a killed sweep.
        Self::take(folder)?;
        Ok(claim)
    }

    fn take_file(folder: &Path, name: &str) -> Result<Self, CheckpointError> {
        let path = folder.join(name);
        let fail = |source| CheckpointError::Write { path: path.clone(), source };
        let Some((mut file, locked)) = open(&path).map_err(fail)? else {
            // The owner is only for the message; it may be unknown.
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
        Ok(Self { file, path: path.clone(), locked })
    }

    /// Whether the folder has been removed, and the lock with it.
    pub fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// Whether the lock keeps other runs out: some file systems do not support locks.
    pub fn is_locked(&self) -> bool {
        self.locked
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
}

/// Opens and locks the file; `None` if another process has locked it. Some network file systems do not
/// support locks: the result then is `false`, since training without a lock is better than refusing to
/// train.
#[cfg(not(windows))]
fn open(path: &Path) -> io::Result<Option<(File, bool)>> {
    let file = options().open(path)?;
    let locked = file.try_lock();
    Ok(lock_state(path, locked).map(|locked| (file, locked)))
}

/// Interprets the result of trying to lock a file: `true` if it is locked now, `false` if it cannot be
/// locked, `None` if another process has locked it.
#[cfg(not(windows))]
fn lock_state(path: &Path, locked: Result<(), TryLockError>) -> Option<bool> {
    match locked {
        Ok(()) => Some(true),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => {
            log::warn!(
                "{}: cannot be locked ({error}), so nothing keeps another run out of the folder",
                path.display()
            );
            Some(false)
        }
    }
}

/// Opens and locks the file; `None` if another process has locked it.
///
/// A Windows file lock would also keep others from reading the owner's process id, so a share mode that
/// lets nobody else open the file for writing serves as the lock.
#[cfg(windows)]
fn open(path: &Path) -> io::Result<Option<(File, bool)>> {
    use std::os::windows::fs::OpenOptionsExt;

    const FILE_SHARE_READ: u32 = 1;
    const ERROR_SHARING_VIOLATION: i32 = 32;
    // A virus scanner, or the system after a run was killed, may keep the file open for a moment.
    match super::patiently(|| options().share_mode(FILE_SHARE_READ).open(path)) {
        Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(None),
        opened => opened.map(|file| Some((file, true))),
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Truncated, not removed: another process may already have the file open.
        let emptied = self.file.set_len(0);
        if let Err(error) = emptied {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_locks_does_not_prevent_training() {
        let path = Path::new("run/.lock");
        // ENOLCK of NFS, ENOTSUP, EINVAL of some FUSE drivers.
        for kind in [io::ErrorKind::Other, io::ErrorKind::Unsupported, io::ErrorKind::InvalidInput]
        {
            assert_eq!(lock_state(path, Err(TryLockError::Error(kind.into()))), Some(false));
        }
        assert_eq!(lock_state(path, Err(TryLockError::WouldBlock)), None);
        assert_eq!(lock_state(path, Ok(())), Some(true));
        let folder = tempfile::tempdir().unwrap();
        assert!(FolderLock::take(folder.path()).unwrap().is_locked());
    }
}
