//! Writing a run's files.

use std::fs;
use std::path::Path;

use super::CheckpointError;
use crate::atomic_file::{patiently, replace};

/// Replaces a file atomically, so that a reader never sees a part of it.
///
/// # Errors
/// [`CheckpointError::Write`].
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    replace(path, bytes).map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

/// Replaces a file atomically with the output of a serialiser.
///
/// # Errors
/// [`CheckpointError::Write`], also if serialising failed.
pub(crate) fn write_text(
    path: &Path,
    text: Result<String, impl std::error::Error>,
) -> Result<(), CheckpointError> {
    let text = text.map_err(|error| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    write_atomically(path, text.as_bytes())
}

/// Creates the folder if necessary and checks that it is writable, before hours of training depend on
/// it.
///
/// # Errors
/// [`CheckpointError::Write`].
pub(crate) fn prepare_folder(folder: &Path) -> Result<(), CheckpointError> {
    let fail = |source| CheckpointError::Write { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(fail)?;
    let probe = folder.join(".polyview-write-test");
    fs::write(&probe, b"").map_err(fail)?;
    // Virus scanners open new files.
    patiently(|| fs::remove_file(&probe)).map_err(fail)
}
