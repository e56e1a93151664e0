//! Folders that a run writes to.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::units::ByteSize;

/// A folder that a run writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Folder {
    /// What it is used for.
    pub purpose: &'static str,
    /// Path as given; it need not exist.
    pub path: String,
    /// Bytes available to this user on its disk, if known.
    pub free_bytes: Option<u64>,
    /// Why it is not writable.
    pub refused: Option<String>,
    /// Bytes that should be free.
    #[serde(skip)]
    needed: u64,
}

impl Folder {
    /// Inspects the folder, or the place where it would be created; `needed` bytes should be free.
    pub(crate) fn inspect(purpose: &'static str, path: &Path, needed: u64) -> Self {
        // Quoted if a terminal would interpret it as a control sequence.
        let shown = path.display().to_string();
        let name = if shown.chars().any(char::is_control) { format!("{shown:?}") } else { shown };
        let existing = nearest(path);
        let free_bytes = existing.as_ref().ok().and_then(|at| fs4::available_space(at).ok());
        let refused = existing.and_then(|folder| match folder.is_dir() {
            // An unnamed file, which is deleted when closed: only writing shows whether it is
            // allowed.
            true => tempfile::tempfile_in(&folder).map(drop),
            false => Err(Error::other(format!("{} is not a folder", folder.display()))),
        });
        let refused = refused.err().map(|error| error.to_string());
        Self { purpose, path: name, free_bytes, refused, needed }
    }

    pub(super) fn problem(&self) -> Option<String> {
        let Self { purpose, path, .. } = self;
        if let Some(reason) = &self.refused {
            return Some(format!("{purpose} {path} cannot be written to: {reason}"));
        }
        let free = self.free_bytes.filter(|&free| free < self.needed)?;
        Some(format!("{purpose} {path}: only {} free on its disk", ByteSize(free)))
    }
}

/// Returns the folder, or its nearest ancestor that exists: a run creates what is missing.
fn nearest(path: &Path) -> Result<PathBuf, Error> {
    let whole = std::path::absolute(path)?;
    for folder in whole.ancestors() {
        match folder.symlink_metadata() {
            Ok(_) => return Ok(folder.to_path_buf()),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::other("no part of the path exists"))
}
