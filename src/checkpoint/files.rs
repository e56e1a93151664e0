//! Writing a run's files.

use std::fs;
use std::path::Path;

use super::{BEST, CONFIG, CheckpointError, HISTORY, LAST, METRICS, REPORT, VALID_PREDICTIONS};
use crate::atomic_file::{becomes, patiently, replace};

/// Replaces a file atomically, so that a reader never sees a partial file.
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

/// Removes the temporary files of a killed run, which are as large as checkpoints. No other run may be
/// writing to the folder. Files that cannot be removed stay.
pub(crate) fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(becomes).is_some_and(is_of_a_run) {
            match patiently(|| fs::remove_file(entry.path())) {
                Ok(()) => log::debug!("{}: left by a killed run, removed", entry.path().display()),
                Err(error) => log::debug!("{}: {error}", entry.path().display()),
            }
        }
    }
}

/// Whether a run writes a file of this name.
pub(super) fn is_of_a_run(name: &str) -> bool {
    let is_checkpoint = || {
        let (stem, extension) = name.split_once('.')?;
        let is_named = |weights: &str| weights.strip_suffix(".safetensors") == Some(stem);
        let stem_fits = is_named(BEST) || is_named(LAST) || stem.starts_with("epoch-");
        Some(stem_fits && matches!(extension, "safetensors" | "state" | "state.next"))
    };
    [CONFIG, HISTORY, VALID_PREDICTIONS, METRICS, REPORT].contains(&name)
        || is_checkpoint() == Some(true)
}

/// Creates the folder if necessary and checks that it is writable, so that a problem shows before the
/// training and not hours later.
///
/// # Errors
/// [`CheckpointError::Write`].
pub(crate) fn prepare_folder(folder: &Path) -> Result<(), CheckpointError> {
    let fail = |source| CheckpointError::Write { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(fail)?;
    let probe = folder.join(".polyview-write-test");
    fs::write(&probe, b"").map_err(fail)?;
    // On Windows, virus scanners open new files.
    patiently(|| fs::remove_file(&probe)).map_err(fail)
}
