//! The folders of runs that are meant, and their names.

use std::path::{Path, PathBuf};

use super::RunsError;
use crate::checkpoint::{CONFIG, HISTORY};
use crate::data::folder::entries;

/// Whether a folder is that of a run.
fn is_run(folder: &Path) -> bool {
    [CONFIG, HISTORY].iter().any(|name| folder.join(name).is_file())
}

/// The runs that folders stand for, in their order: each that is a run for itself, any other for the runs
/// directly in it, in natural order. A run that is named again counts once.
///
/// # Errors
/// [`RunsError::NoRun`], [`RunsError::Read`], and [`RunsError::TooFew`] for fewer than two.
pub fn find(folders: &[PathBuf]) -> Result<Vec<PathBuf>, RunsError> {
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let fail = |source| RunsError::Read { path: folder.clone(), source };
        let runs = if is_run(folder) {
            vec![folder.clone()]
        } else {
            entries(folder).map_err(fail)?.into_iter().filter(|entry| is_run(entry)).collect()
        };
        if runs.is_empty() {
            return Err(RunsError::NoRun { path: folder.clone() });
        }
        for run in runs {
            let whole = run.canonicalize().map_err(fail)?;
            if !found.contains(&whole) {
                found.push(whole);
            }
        }
    }
    if found.len() < 2 {
        return Err(RunsError::TooFew { found: found.len() });
    }
    Ok(found)
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
