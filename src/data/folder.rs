//! Lists the contents of folders.

use std::io;
use std::path::{Path, PathBuf};

use super::natural::natural_order;
use super::video::is_hidden;

/// Returns a folder's entries in natural order, without hidden ones.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !is_hidden(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    natural_order(&mut paths);
    Ok(paths)
}
