//! Why a data set cannot be read at all. Faults of single entries are
//! [`Problem`](super::problem::Problem)s instead.

use std::path::PathBuf;

/// Why a data set or a split cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The root is no folder.
    #[error("{}: there is no such folder; give the data set's folder as --dataset-root", .root.display())]
    NoRoot {
        /// The data set's root.
        root: PathBuf,
    },
    /// The root holds no split.
    #[error("{}: holds no split folder; expected one of: {expected}", .root.display())]
    NoSplits {
        /// The data set's root.
        root: PathBuf,
        /// The splits the schema names.
        expected: String,
    },
    /// The schema has no such split.
    #[error("there is no split {split:?}; the schema names: {known}")]
    UnknownSplit {
        /// What was asked for.
        split: String,
        /// The splits the schema names.
        known: String,
    },
    /// This split does not exist below the root.
    #[error("{}: holds no folder for the split {split:?}; found: {found}", .root.display())]
    NoSplit {
        /// The data set's root.
        root: PathBuf,
        /// The split.
        split: String,
        /// The splits that exist.
        found: String,
    },
    /// The annotation file cannot be read.
    #[error("{}: the annotations cannot be read: {reason}", .path.display())]
    Io {
        /// The annotation file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The annotation file is not the JSON that is expected.
    #[error("{}, line {line}, column {column}: {reason}", .path.display())]
    Json {
        /// The annotation file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// What was found there.
        reason: String,
    },
}
