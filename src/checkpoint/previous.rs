//! The run that a folder already holds.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::lock::CLAIM;
use super::{BEST, CheckpointError, HISTORY, LAST};
use crate::atomic_file::patiently;

/// Name of a folder of earlier files, before its number.
const PREVIOUS: &str = "previous-";
/// What is shared between runs, or belongs to the one that is starting.
const SHARED: [&str; 3] = ["frames", ".lock", CLAIM];

/// Whether a folder holds files of a run.
pub(crate) fn holds_run(folder: &Path) -> bool {
    [LAST, BEST, HISTORY].iter().any(|name| folder.join(name).exists())
}

/// Moves the files of the run in `folder` to a new folder in it, which is returned.
///
/// # Errors
/// [`CheckpointError::Write`].
pub(crate) fn move_aside(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let fail = |source| CheckpointError::Write { path: folder.to_owned(), source };
    let is_kept = |name: &OsString| {
        let name = name.to_string_lossy();
        SHARED.contains(&name.as_ref()) || name.starts_with(PREVIOUS)
    };
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let names: Vec<OsString> = entries.map_err(fail)?.iter().map(fs::DirEntry::file_name).collect();
    let target = (1_u32..)
        .map(|number| folder.join(format!("{PREVIOUS}{number:03}")))
        .find(|target| !target.exists())
        .expect("numbers do not run out");
    fs::create_dir(&target).map_err(fail)?;
    for name in names.iter().filter(|name| !is_kept(name)) {
        patiently(|| fs::rename(folder.join(name), target.join(name))).map_err(fail)?;
    }
    Ok(target)
}
