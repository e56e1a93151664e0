//! The earlier run in a folder, and moving its files aside.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::is_of_a_run;
use super::{BEST, CheckpointError, FAILURE, HISTORY, LAST, LOG, TENSORBOARD, is_directly_in};
use crate::atomic_file::patiently;

/// Prefix of the name of a folder of earlier files; a number follows.
const PREVIOUS: &str = "previous-";
/// Other files and folders that a run or a sweep writes, except the frame cache and locks.
const OTHERS: [&str; 3] = [TENSORBOARD, LOG, FAILURE];

/// Whether a folder holds files of a run.
pub(crate) fn holds_run(folder: &Path) -> bool {
    [LAST, BEST, HISTORY].iter().any(|name| folder.join(name).exists())
}

/// Whether a file of this name in a run's folder is the run's. Other files are never touched.
fn is_moved(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| is_of_a_run(name) || OTHERS.contains(&name))
}

/// Whether [`move_aside`] would move this file.
pub(crate) fn would_move(folder: &Path, file: &Path) -> bool {
    is_directly_in(file, folder) && file.file_name().is_some_and(|name| is_moved(&name.to_owned()))
}

/// Moves the files of the run in `folder` to a new subfolder, which is returned.
///
/// # Errors
/// [`CheckpointError::Write`].
pub(crate) fn move_aside(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let fail = |source| CheckpointError::Write { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let names: Vec<OsString> = entries.map_err(fail)?.iter().map(fs::DirEntry::file_name).collect();
    move_into_new(folder, names.iter().filter(|name| is_moved(name)))
}

/// Moves those files of the given names that exist in `folder` to a new subfolder, which is returned.
///
/// # Errors
/// [`CheckpointError::Write`].
pub(crate) fn move_files_aside(folder: &Path, names: &[&str]) -> Result<PathBuf, CheckpointError> {
    let names: Vec<OsString> = names.iter().map(OsString::from).collect();
    move_into_new(folder, names.iter().filter(|name| folder.join(name).exists()))
}

fn move_into_new<'a>(
    folder: &Path,
    names: impl Iterator<Item = &'a OsString>,
) -> Result<PathBuf, CheckpointError> {
    let fail = |source| CheckpointError::Write { path: folder.to_owned(), source };
    let target = (1_u32..)
        .map(|number| folder.join(format!("{PREVIOUS}{number:03}")))
        .find(|target| !target.exists())
        .expect("numbers do not run out");
    fs::create_dir(&target).map_err(fail)?;
    for name in names {
        patiently(|| fs::rename(folder.join(name), target.join(name))).map_err(fail)?;
    }
    Ok(target)
}
