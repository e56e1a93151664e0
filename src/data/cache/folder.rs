//! The cache's folder: paths of entries, scanning, and removing stale temporary files.
//!
//! An entry's path is `ab/abcd….frames`: the first two digits of its key, then all 32. Files with
//! other names do not belong to the cache; they are neither counted nor touched.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::key::Id;

const ENTRY: &str = ".frames";
const TEMPORARY: &str = ".tmp";

/// Marks a folder as a cache for backup programs; see <https://bford.info/cachedir/>.
const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag created by polyview: decoded frames of video clips.\n\
    # The folder can be deleted at any time. For information about cache directory tags see\n\
    # https://bford.info/cachedir/\n";

/// A folder of entries.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

/// An entry found by a scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub id: Id,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Time when the entry was written or first used by the latest run.
    pub used: SystemTime,
}

/// A file under a name that no reader looks for. It is removed when this is dropped, unless renamed.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// Moves the file, which must be closed, to `path`, replacing any existing file.
    pub(super) fn rename(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.0, path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename, there is nothing to remove. If removing fails, a later run cleans up.
        let _ = fs::remove_file(&self.0);
    }
}

impl Folder {
    /// Creates the folder if necessary and checks that it is writable.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        create(root)?;
        // Absolute, so that a later change of the working directory has no effect. Not canonical:
        // some Windows drives (network, RAM) cannot resolve links.
        let folder = Self { root: std::path::absolute(root)? };
        folder.temporary(&Id([0; 16]))?;
        Ok(folder)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of an entry.
    pub(super) fn entry(&self, id: &Id) -> PathBuf {
        let name = id.to_string();
        self.root.join(&name[..2]).join(name + ENTRY)
    }

    /// Creates a new empty file next to the entry.
    pub(super) fn temporary(&self, id: &Id) -> io::Result<(Temporary, File)> {
        let name = id.to_string();
        let parent = self.root.join(&name[..2]);
        // Random, because process ids are not unique among machines that share the folder.
        let path = parent.join(format!("{name}.{:016x}{TEMPORARY}", rand::random::<u64>()));
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&parent)?;
                create()
            }
            created => created,
        };
        file.map(|file| (Temporary(path), file))
    }

    /// Creates the folder again if it was removed. Returns whether it was.
    pub(super) fn restore(&self) -> io::Result<bool> {
        if self.root.is_dir() {
            return Ok(false);
        }
        create(&self.root)?;
        Ok(true)
    }

    /// Returns the entries, except for those whose metadata cannot be read.
    pub(super) fn scan(&self) -> Vec<Found> {
        let mut found = Vec::new();
        self.visit(|name, entry| {
            let Some(id) = name.strip_suffix(ENTRY).and_then(Id::parse) else { return };
            let Ok(about) = entry.metadata() else { return };
            if about.is_file() {
                let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Found { id, bytes: about.len(), used });
            }
        });
        found
    }

    /// Removes temporary files of at least this age, which were left behind by processes that died.
    pub(super) fn remove_stale(&self, age: Duration) {
        self.visit(|name, entry| {
            if !is_temporary(name) {
                return;
            }
            let old = entry
                .metadata()
                .and_then(|about| about.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|passed| passed >= age));
            if old && let Err(error) = fs::remove_file(entry.path()) {
                log::debug!("{}: {error}", entry.path().display());
            }
        });
    }

    /// Calls `look` for each file in the two-digit subfolders whose name begins with the same
    /// digits.
    fn visit(&self, mut look: impl FnMut(&str, &fs::DirEntry)) {
        let Ok(subfolders) = fs::read_dir(&self.root) else { return };
        for subfolder in subfolders.flatten() {
            let digits = subfolder.file_name();
            let Some(digits) = digits.to_str().filter(|name| is_digits(name, 2)) else { continue };
            let Ok(entries) = fs::read_dir(subfolder.path()) else { continue };
            for entry in entries.flatten() {
                if let Some(name) = entry.file_name().to_str()
                    && name.starts_with(digits)
                {
                    look(name, &entry);
                }
            }
        }
    }
}

/// Creates the folder, with a cache tag unless it contains other files, which backups would then
/// skip.
fn create(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if !name.to_str().is_some_and(|name| is_digits(name, 2)) {
            if name != TAG {
                log::debug!("{}: contains other files, so it gets no {TAG}", root.display());
            }
            return Ok(());
        }
    }
    match OpenOptions::new().write(true).create_new(true).open(root.join(TAG)) {
        Ok(mut file) => io::Write::write_all(&mut file, TAG_TEXT.as_bytes()),
        // Another run was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks whether `name` is one that [`Folder::temporary`] creates.
fn is_temporary(name: &str) -> bool {
    let parts = name.strip_suffix(TEMPORARY).and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(id, random)| Id::parse(id).is_some() && is_digits(random, 16))
}
