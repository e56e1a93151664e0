//! Finds and opens tables and lists of clips.

use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::folder;
use crate::schema::SplitSpec;
use crate::text;

/// Accepted names of the column with a clip's path, in lower case.
pub(super) const PATH: [&str; 4] = ["path", "clip", "video", "file"];

/// A table or a list.
#[derive(Debug)]
pub(super) struct TableFile {
    pub path: PathBuf,
    /// The split whose clips the file lists, if its name says so.
    pub split: Option<String>,
    /// Whether the first line contains column names, including one for paths.
    pub has_header: bool,
    pub text: String,
}

impl TableFile {
    /// Finds the tables and lists of a data set: `root` itself if it is a file; otherwise
    /// manifest.csv or manifest.tsv; otherwise the files whose names say which split they list;
    /// otherwise the only table.
    ///
    /// # Errors
    /// A file is not text, or there are several files for one split.
    pub(super) fn find(root: &Path, splits: &[SplitSpec]) -> Result<Vec<Self>, DataError> {
        if root.is_file() {
            return Ok(vec![Self::open(root.to_owned(), None)?]);
        }
        // Hidden files are ignored: macOS leaves `._train.csv` on other systems' disks.
        let mut files = folder::entries(root).map_err(|error| {
            let reason = format!("cannot be read: {error}");
            DataError::Layout { path: root.to_owned(), reason }
        })?;
        files.retain(|path| is_table(path) || has_extension(path, "txt"));
        let is_manifest = |path: &&PathBuf| {
            path.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case("manifest"))
        };
        if let Some(path) = files.iter().find(is_manifest) {
            return Ok(vec![Self { has_header: true, ..Self::open(path.clone(), None)? }]);
        }
        let mut found: Vec<Self> = Vec::new();
        for path in &files {
            let Some(split) = split_of(path, splits) else { continue };
            if let Some(other) = found.iter().find(|file| file.split.as_ref() == Some(&split)) {
                let other = other.path.file_name().unwrap_or_default().to_string_lossy();
                let reason = format!("lists the split {split:?}, and so does {other}: remove one");
                return Err(DataError::Layout { path: path.clone(), reason });
            }
            found.push(Self::open(path.clone(), Some(split))?);
        }
        let tables: Vec<&PathBuf> = files.iter().filter(|path| is_table(path)).collect();
        if let ([], [only]) = (found.as_slice(), tables.as_slice()) {
            found.push(Self { has_header: true, ..Self::open((*only).clone(), None)? });
        }
        Ok(found)
    }

    fn open(path: PathBuf, split: Option<String>) -> Result<Self, DataError> {
        let fail = |reason: String| DataError::Layout { path: path.clone(), reason };
        let bytes =
            std::fs::read(&path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        let text = text::decode(&bytes).map_err(|error| fail(error.to_string()))?;
        let text = text.text.into_owned();
        let file = Self { path, split, has_header: false, text };
        Ok(Self { has_header: file.has_paths(), ..file })
    }

    /// Returns whether the first line names a column of paths.
    pub(super) fn has_paths(&self) -> bool {
        header(&self.text).iter().any(|column| PATH.contains(&column.as_str()))
    }

    /// Returns the file's folder, to which paths in the file are relative.
    pub(super) fn folder(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).to_owned()
    }

    /// Returns whether the file is a table, according to its extension.
    pub(super) fn is_table(&self) -> bool {
        is_table(&self.path)
    }

    /// Creates an error in a line of the file, counted from 1.
    pub(super) fn error(&self, line: usize, reason: impl Into<String>) -> DataError {
        DataError::Line { path: self.path.clone(), line, reason: reason.into() }
    }

    /// Returns the column separator: the candidate that occurs most often in the first line.
    pub(super) fn delimiter(&self) -> u8 {
        delimiter(self.text.lines().next().unwrap_or_default())
    }
}

fn delimiter(line: &str) -> u8 {
    let count = |mark: u8| line.bytes().filter(|byte| *byte == mark).count();
    // In many countries, spreadsheets write semicolons.
    let marks = [b',', b'\t', b';'];
    marks.into_iter().rev().max_by_key(|mark| count(*mark)).unwrap_or(b',')
}

/// Returns the column names in the first line, in lower case.
fn header(text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    let cells = first.split(char::from(delimiter(first)));
    cells.map(|cell| cell.trim().trim_matches('"').to_lowercase()).collect()
}

fn is_table(path: &Path) -> bool {
    has_extension(path, "csv") || has_extension(path, "tsv")
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// Returns the split that a file name contains: `train.csv`, `kinetics400_val_list_videos.txt`.
fn split_of(path: &Path, splits: &[SplitSpec]) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    let mut words = stem.split(|c: char| !c.is_alphanumeric());
    words.find_map(|word| {
        let is = |spelling: &String| spelling.eq_ignore_ascii_case(word);
        splits.iter().find(|split| split.spellings.iter().any(is)).map(|split| split.name.clone())
    })
}
