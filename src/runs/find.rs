//! The folders of runs that are meant, and their names.

use std::path::{Path, PathBuf};

use super::{Run, RunsError};
use crate::checkpoint::{CONFIG, HISTORY};
use crate::data::folder::entries;

/// The folder of a run that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether it was itself given, not a folder around it.
    pub named: bool,
}

/// Whether a folder is that of a run.
fn is_run(folder: &Path) -> bool {
    [CONFIG, HISTORY].iter().any(|name| folder.join(name).is_file())
}

/// The runs that folders stand for, in their order: each that is a run for itself, any other for the runs
/// directly in it, in natural order. A run that is named again counts once.
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

/// Reads runs. One that cannot be read and was found in a folder of runs is left out, as a sweep may hold
/// one that was killed while it wrote; the second list says why.
///
/// # Errors
/// [`RunsError::Read`] and [`RunsError::Damaged`] for a run that was named, or where fewer than two are left.
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

/// The shortest ending of each path that no other path has.
pub fn names(paths: &[PathBuf]) -> Vec<String> {
    let ending = |path: &Path, parts: usize| -> PathBuf {
        let all: Vec<_> = path.components().collect();
        all[all.len().saturating_sub(parts)..].iter().collect()
    };
    let name = |path: &PathBuf| {
        let unique = |parts: &usize| {
            let own = ending(path, *parts);
            paths.iter().filter(|other| ending(other, *parts) == own).count() == 1
        };
        let most = path.components().count();
        let parts = (1..most).find(unique).unwrap_or(most);
        ending(path, parts).to_string_lossy().into_owned()
    };
    paths.iter().map(name).collect()
}
