//! Finds the folders of a data set's splits and parses the paths of its clips.

use std::path::{Path, PathBuf};

use super::error::DataError;
use super::folder::is_folder;
use crate::schema::{Schema, SplitSpec};

/// A split folder that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitDir {
    /// The split's name in the schema.
    pub name: String,
    /// The split's folder.
    pub dir: PathBuf,
    /// Whether the split's actions have labels.
    pub labelled: bool,
}

/// Returns the folder of a split; `split` may be any of its spellings.
///
/// # Errors
/// [`DataError::NoRoot`], [`DataError::Layout`], [`DataError::UnknownSplit`] for a name that the
/// schema lacks, and [`DataError::NoSplit`], which lists the splits that exist.
pub fn find_split(root: &Path, split: &str, schema: &Schema) -> Result<SplitDir, DataError> {
    let Some(spec) = schema.split(split) else {
        let known: Vec<_> = schema.splits.iter().map(|split| split.name.as_str()).collect();
        return Err(DataError::UnknownSplit { split: split.to_owned(), known: known.join(", ") });
    };
    let found = split_folders(root, schema)?;
    let names: Vec<_> = found.iter().map(|split| split.name.clone()).collect();
    found.into_iter().find(|found| found.name == spec.name).ok_or_else(|| DataError::NoSplit {
        root: root.to_owned(),
        split: spec.name.clone(),
        found: listed(&names),
    })
}

/// Joins names for a sentence: `train, valid and test`.
pub(super) fn listed(names: &[String]) -> String {
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "no split".to_owned(),
    }
}

/// Returns the splits that exist below `root`, in the schema's order; there may be none.
///
/// # Errors
/// `root` is not a folder, or it is unknown whether a split's folder exists: if it were taken for
/// absent, the split would be made of another one.
pub(super) fn split_folders(root: &Path, schema: &Schema) -> Result<Vec<SplitDir>, DataError> {
    if !is_folder(root)? {
        return Err(DataError::NoRoot { root: root.to_owned() });
    }
    let mut found = Vec::new();
    for spec in &schema.splits {
        if let Some(dir) = split_folder(root, spec, schema)? {
            found.push(SplitDir { name: spec.name.clone(), dir, labelled: spec.labelled });
        }
    }
    Ok(found)
}

fn split_folder(
    root: &Path,
    spec: &SplitSpec,
    schema: &Schema,
) -> Result<Option<PathBuf>, DataError> {
    let below = schema.folder.iter().map(|folder| root.join(folder));
    for parent in below.chain(std::iter::once(root.to_owned())) {
        for dir in spec.spellings.iter().map(|spelling| parent.join(spelling)) {
            if is_folder(&dir)? {
                return Ok(Some(dir));
            }
        }
    }
    Ok(None)
}

/// A resolved clip Url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipPath {
    /// The path inside the split folder, as annotated: usually without an extension.
    pub path: PathBuf,
    /// Name of the split in the Url, if present.
    pub split: Option<String>,
}

/// Parses a clip's Url: an optional prefix, an optional split name, then the path inside the split
/// folder.
///
/// # Errors
/// The reason why the Url is refused: it is empty, absolute, leaves the folder, or is interpreted
/// differently on different systems (backslashes, drive letters).
pub fn clip_path(url: &str, schema: &Schema) -> Result<ClipPath, &'static str> {
    if url.contains(['\\', '\0']) {
        return Err("backslashes and zero bytes are not allowed in a clip's path");
    }
    if url.starts_with('/') {
        return Err("a clip's path must be relative to the split folder, not absolute");
    }
    let mut parts: Vec<&str> = url.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err("a clip's path must not lead out of the split folder (`..`)");
    }
    // On Windows, joining `C:x` to a folder would replace the folder.
    if parts.iter().any(|part| part.as_bytes().get(1) == Some(&b':')) {
        return Err("a clip's path must not name a drive");
    }
    if parts.len() > 1 && parts.first().is_some_and(|p| schema.url_prefixes.iter().any(|x| x == p))
    {
        parts.remove(0);
    }
    let split = parts.first().and_then(|part| schema.split(part)).map(|spec| spec.name.clone());
    if split.is_some() {
        parts.remove(0);
    }
    if parts.is_empty() {
        return Err("no path is left after the split's name");
    }
    Ok(ClipPath { path: parts.iter().collect(), split })
}
