//! Finds the folders of the runs to compare, and names the runs.

use std::path::{Path, PathBuf};

use super::{Run, RunsError};
use crate::checkpoint::{CONFIG, HISTORY};
use crate::data::folder::entries;

/// Folder of a run to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    /// Path of the folder.
    pub path: PathBuf,
    /// Whether the folder itself was given, rather than a folder that contains it.
    pub named: bool,
}

/// Returns whether a folder is that of a run.
fn is_run(folder: &Path) -> bool {
    [CONFIG, HISTORY].iter().any(|name| folder.join(name).is_file())
}

/// Returns the runs that `folders` stand for, in order. A run's folder stands for itself, any other folder
/// for the runs directly in it, in natural order. A run that is given several times counts once.
///
/// # Errors
/// [`RunsError::NoRun`], [`RunsError::Read`], and [`RunsError::TooFew`] for fewer than two.
pub fn find(folders: &[PathBuf]) -> Result<Vec<RunFolder>, RunsError> {
    let mut found: Vec<RunFolder> = Vec::new();
    for folder in folders {
        let fail = |source| RunsError::Read { path: folder.clone(), source };
        let named = is_run(folder);
        let runs = if named {
            vec![folder.clone()]
        } else {
            entries(folder).map_err(fail)?.into_iter().filter(|entry| is_run(entry)).collect()
        };
        if runs.is_empty() {
            return Err(RunsError::NoRun { path: folder.clone() });
        }
        for run in runs {
            let path = run.canonicalize().map_err(fail)?;
            match found.iter_mut().find(|other| other.path == path) {
                Some(other) => other.named |= named,
                None => found.push(RunFolder { path, named }),
            }
        }
    }
    if found.len() < 2 {
        return Err(RunsError::TooFew { found: found.len() });
    }
    Ok(found)
}

/// Reads runs. A run that cannot be read and was found in a folder of runs is left out, because a sweep may
/// contain a run that was killed while writing; the second list has the errors of these runs.
///
/// # Errors
/// [`RunsError::Read`] and [`RunsError::Damaged`] for a run that was named, or if fewer than two are left.
pub fn read_all(folders: &[RunFolder]) -> Result<(Vec<Run>, Vec<RunsError>), RunsError> {
    let paths: Vec<PathBuf> = folders.iter().map(|folder| folder.path.clone()).collect();
    let (mut runs, mut left_out) = (Vec::new(), Vec::new());
    for (folder, name) in folders.iter().zip(names(&paths)) {
        match Run::read(&name, &folder.path) {
            Ok(run) => runs.push(run),
            Err(error) if folder.named => return Err(error),
            Err(error) => left_out.push(error),
        }
    }
    if runs.len() < 2 && !left_out.is_empty() {
        return Err(left_out.swap_remove(0));
    }
    Ok((runs, left_out))
}

/// Returns the shortest suffix of each path that no other path has.
pub fn names(paths: &[PathBuf]) -> Vec<String> {
    let suffix = |path: &Path, parts: usize| -> PathBuf {
        let all: Vec<_> = path.components().collect();
        all[all.len().saturating_sub(parts)..].iter().collect()
    };
    let name = |path: &PathBuf| {
        let unique = |parts: &usize| {
            let own = suffix(path, *parts);
            paths.iter().filter(|other| suffix(other, *parts) == own).count() == 1
        };
        let most = path.components().count();
        let parts = (1..most).find(unique).unwrap_or(most);
        suffix(path, parts).to_string_lossy().into_owned()
    };
    paths.iter().map(name).collect()
}
