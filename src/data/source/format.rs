//! The formats in which a data set lists its actions, and their detection.

use std::path::{Path, PathBuf};

use super::super::annotations::ANNOTATIONS;
use super::super::error::DataError;
use super::super::folder::is_folder;
use super::super::layout;
use super::folders::{ClassFolders, subfolders};
use super::table::TableFile;
use crate::options::choices;
use crate::schema::{Schema, SplitSpec};

choices! {
    /// How a data set lists its actions.
    pub Format {
        /// SoccerNet's layout: a folder per split, with annotations.json.
        SoccerNet = "soccernet",
        /// A folder per class, optionally within a folder per split.
        Folders = "folders",
        /// A table with a header and a line per clip (CSV, TSV).
        Manifest = "manifest",
        /// Lines with a path and a label, like Kinetics' lists.
        List = "list",
    }
}

/// A recognised data set.
#[derive(Debug)]
pub(super) enum Found {
    SoccerNet,
    Folders(Vec<ClassFolders>),
    Manifests(Vec<TableFile>),
    Lists(Vec<TableFile>),
}

impl Found {
    pub(super) fn format(&self) -> Format {
        match self {
            Self::SoccerNet => Format::SoccerNet,
            Self::Folders(_) => Format::Folders,
            Self::Manifests(_) => Format::Manifest,
            Self::Lists(_) => Format::List,
        }
    }

    /// Returns the tables or lists of the data set.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::SoccerNet | Self::Folders(_) => Vec::new(),
            Self::Manifests(files) | Self::Lists(files) => {
                files.iter().map(|file| file.path.clone()).collect()
            }
        }
    }
}

/// Returns the splits of a data set without a schema, with their common spellings.
pub(super) fn usual_splits() -> Vec<SplitSpec> {
    let split = |name: &str, spellings: &[&str]| SplitSpec {
        name: name.to_owned(),
        spellings: [name].iter().chain(spellings).map(|s| (*s).to_owned()).collect(),
        labelled: true,
    };
    vec![
        split("train", &["Train", "training"]),
        split("valid", &["Valid", "val", "Val", "validation"]),
        split("test", &["Test", "testing"]),
    ]
}

/// Detects how the data set at `root` lists its actions; considers only `forced` if it is given.
///
/// # Errors
/// [`DataError::NoRoot`], [`DataError::OneSplit`], and [`DataError::Layout`] if no format matches.
pub(super) fn recognise(
    root: &Path,
    forced: Option<Format>,
    schema: &Schema,
    splits: &[SplitSpec],
) -> Result<Found, DataError> {
    if !root.is_dir() && !root.is_file() {
        return Err(DataError::NoRoot { root: root.to_owned() });
    }
    let may_be = |format| forced.is_none_or(|forced| forced == format);
    let split_folders = match may_be(Format::SoccerNet) && root.is_dir() {
        true => layout::split_folders(root, schema)?,
        false => Vec::new(),
    };
    let is_soccernet = split_folders.iter().any(|split| split.dir.join(ANNOTATIONS).is_file());
    let is_one_split =
        may_be(Format::SoccerNet) && !is_soccernet && root.join(ANNOTATIONS).is_file();
    if is_one_split && forced.is_some() {
        return Err(DataError::OneSplit { root: root.to_owned() });
    }
    if forced == Some(Format::SoccerNet) || is_soccernet {
        return Ok(Found::SoccerNet);
    }
    if may_be(Format::Manifest) || may_be(Format::List) {
        let (manifests, lists): (Vec<_>, Vec<_>) = TableFile::find(root, splits)?
            .into_iter()
            // In a split's folder, a table may be anything, for example predictions.
            .filter(|file| !is_one_split || file.has_paths() || !file.has_header)
            .partition(|file| file.has_header);
        if !manifests.is_empty() && may_be(Format::Manifest) {
            return Ok(Found::Manifests(manifests));
        }
        if !lists.is_empty() && may_be(Format::List) {
            return Ok(Found::Lists(lists));
        }
    }
    // Otherwise, the folders of its actions would be mistaken for classes.
    if is_one_split {
        return Err(DataError::OneSplit { root: root.to_owned() });
    }
    if may_be(Format::Folders) && root.is_dir() {
        let found = class_folders(root, splits)?;
        if !found.is_empty() {
            return Ok(Found::Folders(found));
        }
    }
    // A split folder without annotations or clips is most likely an incomplete SoccerNet data set.
    if forced.is_none() && !split_folders.is_empty() {
        return Ok(Found::SoccerNet);
    }
    let reason = match forced {
        Some(Format::Folders) => "contains no class folders with clips",
        Some(Format::Manifest) => {
            "contains no table with a header that names a column `path` (manifest.csv, train.csv, …)"
        }
        Some(Format::List) => "contains no list of paths and labels (train.txt, val.txt, …)",
        _ => {
            "contains no data set: neither split folders with annotations.json, nor a folder of \
             clips per class, nor a table (manifest.csv, or train.csv, …), nor lists (train.txt, val.txt)"
        }
    };
    Err(DataError::Layout { path: root.to_owned(), reason: reason.to_owned() })
}

/// Returns the folders whose subfolders are classes: the split folders, or the root.
///
/// # Errors
/// A folder cannot be read. If its split were skipped, another one would be made in its place.
fn class_folders(root: &Path, splits: &[SplitSpec]) -> Result<Vec<ClassFolders>, DataError> {
    let mut found = Vec::new();
    let mut has_clips = false;
    for split in splits {
        for dir in split.spellings.iter().map(|spelling| root.join(spelling)) {
            if is_folder(&dir)? {
                let folders = ClassFolders { split: Some(split.name.clone()), dir };
                has_clips |= folders.has_clips()?;
                found.push(folders);
                break;
            }
        }
    }
    if has_clips {
        return Ok(found);
    }
    // Empty split folders are not classes.
    let names = splits.iter().flat_map(|split| &split.spellings);
    let is_split = |dir: &PathBuf| names.clone().any(|name| dir.ends_with(name));
    let whole = ClassFolders { split: None, dir: root.to_owned() };
    let has_classes = !subfolders(root)?.iter().any(is_split) && whole.has_clips()?;
    Ok(if has_classes { vec![whole] } else { Vec::new() })
}
