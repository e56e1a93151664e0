//! Replacing files atomically.

#[cfg(any(windows, test))]
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

#[cfg(not(windows))]
use atomic_write_file::AtomicWriteFile;

/// Pauses after each failure in [`patiently`], in milliseconds.
const PAUSES: [u64; 4] = [20, 100, 500, 2000];

/// Runs a file operation and retries it if Windows refuses it because another program (a virus scanner,
/// OneDrive or a Python script) has the file open, usually for a moment. On other systems the first failure
/// is final.
pub(crate) fn patiently<T>(action: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    // ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION; elsewhere these numbers mean other things.
    retry(action, |error| cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32)))
}

fn retry<T>(
    mut action: impl FnMut() -> io::Result<T>,
    temporary: impl Fn(&io::Error) -> bool,
) -> io::Result<T> {
    for pause in PAUSES {
        match action() {
            Err(error) if temporary(&error) => thread::sleep(Duration::from_millis(pause)),
            done => return done,
        }
    }
    action()
}

/// Replaces a file atomically: writes to a temporary file, syncs, then renames it, so that a reader never
/// sees a partial file. A device or a pipe is written to directly. A symbolic link is replaced, not its
/// target: a run whose folder links to another run's files must not change those. See [`linked`].
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.metadata().is_ok_and(|target| !target.is_file()) {
        return std::fs::write(path, bytes);
    }
    #[cfg(not(windows))]
    return replace_with_mode(path, bytes);
    #[cfg(windows)]
    return replace_patiently(path, bytes);
}

/// Resolves an output path given by the user: returns the target of a symbolic link, which need not exist,
/// or the path itself.
pub(crate) fn linked(path: &Path) -> PathBuf {
    let target = || {
        let link = path.read_link().ok()?;
        path.canonicalize().ok().or_else(|| Some(path.parent()?.join(link)))
    };
    target().unwrap_or_else(|| path.to_owned())
}

/// Replaces a file, keeping the old one's mode and owner; syncs the folder as well.
#[cfg(not(windows))]
fn replace_with_mode(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicWriteFile::open(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Replaces a file on Windows, retrying only the rename. An `AtomicWriteFile` is consumed when its rename
/// fails and leaves its temporary file behind, so that the whole write would have to be retried.
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
    // The first error is the one to report.
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Returns the name of the file that a temporary file of [`replace`] was going to replace; `None` for other
/// files. Temporary names are a dot, the name, a dot, and 6 or 16 letters and digits.
pub(crate) fn becomes(temporary: &str) -> Option<&str> {
    let (name, random) = temporary.strip_prefix('.')?.rsplit_once('.')?;
    let fits = matches!(random.len(), 6 | 16) && random.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_contain_the_final_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.state");
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap())
        };
        // The state that a killed program leaves.
        #[cfg(not(windows))]
        std::mem::forget(AtomicWriteFile::open(&path).unwrap());
        #[cfg(windows)]
        fs::write(folder.path().join(".last.state.0123456789abcdef"), b"").unwrap();
        let left: Vec<_> = names().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(becomes(&left[0]), Some("last.state"));
        for other in ["last.state", ".lock", ".gitignore", ".polyview-write-test", "a.b.123456"] {
            assert_eq!(becomes(other), None, "{other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_the_user_names_stays_and_its_file_is_replaced() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (there, here) = (folder.path().join("there"), folder.path().join("here"));
        fs::create_dir(&there).unwrap();
        fs::create_dir(&here).unwrap();
        let (file, link) = (there.join("table.csv"), here.join("table.csv"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("../there/table.csv", &link).unwrap();
        replace(&linked(&link), b"new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        let absent = here.join("absent");
        symlink("../there/other.csv", &absent).unwrap();
        replace(&linked(&absent), b"first").unwrap();
        assert!(absent.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(there.join("other.csv")).unwrap(), "first");
        // A run's own files are not written through links.
        replace(&link, b"run").unwrap();
        assert!(!link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(linked(&link), link);
    }

    #[test]
    fn temporary_failures_are_retried() {
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
