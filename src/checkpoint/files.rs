//! Writing files so that a reader never sees half of one.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

#[cfg(not(windows))]
use atomic_write_file::AtomicWriteFile;

use super::CheckpointError;

/// Milliseconds that [`patiently`] waits after each refusal.
const PAUSES: [u64; 4] = [20, 100, 500, 2000];

/// Does what Windows refuses while another program has the file open: a virus scanner, OneDrive or
/// a script in Python, mostly for a moment. On other systems a refusal is final.
pub(crate) fn patiently<T>(action: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    // ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION; elsewhere these numbers mean other things.
    retry(action, |error| cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32)))
}

fn retry<T>(
    mut action: impl FnMut() -> io::Result<T>,
    passes: impl Fn(&io::Error) -> bool,
) -> io::Result<T> {
    for pause in PAUSES {
        match action() {
            Err(error) if passes(&error) => thread::sleep(Duration::from_millis(pause)),
            done => return done,
        }
    }
    action()
}

/// Writes a file in one piece: to a temporary name, synced, then renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    #[cfg(not(windows))]
    let written = replace(path, bytes);
    #[cfg(windows)]
    let written = replace_patiently(path, bytes);
    written.map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

/// Keeps the old file's mode and owner, and syncs the folder as well.
#[cfg(not(windows))]
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicWriteFile::open(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// For Windows: an `AtomicWriteFile` whose renaming is refused is used up and leaves its temporary
/// file, as large as the weights, so that it could only be tried again as a whole.
#[cfg(any(windows, test))]
fn replace_patiently(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = fs::File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        patiently(|| fs::rename(&temporary, path))
    };
    // The first error is the one to tell.
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
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
    // A scanner likes to look at what is new.
    patiently(|| fs::remove_file(&probe)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_a_moment_is_tried_again() {
        let mut tries = 0;
        let held_twice = || {
            tries += 1;
            if tries < 3 { Err(io::Error::from_raw_os_error(32)) } else { Ok(tries) }
        };
        assert_eq!(retry(held_twice, |_| true).unwrap(), 3);
        let absent = || -> io::Result<()> {
            tries += 1;
            Err(io::ErrorKind::NotFound.into())
        };
        assert_eq!(patiently(absent).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(tries, 4);
    }

    #[test]
    fn replacing_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.state");
        for text in ["one", "two"] {
            replace_patiently(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let blocked = folder.path().join("folder");
        fs::create_dir(&blocked).unwrap();
        assert!(replace_patiently(&blocked, b"three").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
