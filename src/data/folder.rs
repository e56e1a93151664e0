//! Examines folders and lists their contents.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::error::DataError;
use super::natural::natural_order;
use super::video::is_hidden;

/// Returns a folder's entries in natural order, without hidden ones.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_hidden(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    natural_order(&mut paths);
    Ok(paths)
}

/// Returns whether `path` is a folder; a dangling link is not one.
///
/// # Errors
/// The path cannot be examined, for example if it is below a folder without search permission.
pub(super) fn is_folder(path: &Path) -> Result<bool, DataError> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.is_dir()),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Checks whether an error means that there is no such file or folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Creates the error for a file or folder that the operating system does not let us examine.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> DataError {
    DataError::Layout { path: path.to_owned(), reason: format!("cannot be read: {error}") }
}
