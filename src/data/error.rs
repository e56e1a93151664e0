//! Errors that make a whole data set or split unreadable. Errors in individual entries are
//! [`Problem`](super::problem::Problem)s instead.

use std::path::PathBuf;

use crate::schema::SchemaError;

/// Why a data set or a split cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The root is not a folder.
    #[error("{}: no such folder", .root.display())]
    NoRoot {
        /// The data set's root.
        root: PathBuf,
    },
    /// The root is the folder of one split in SoccerNet's layout.
    #[error("{}: is the folder of a single split (it has annotations.json)", .root.display())]
    OneSplit {
        /// The path that was given as the data set's root.
        root: PathBuf,
    },
    /// The schema has no such split.
    #[error("there is no split {split:?}; the schema names: {known}")]
    UnknownSplit {
        /// The requested split.
        split: String,
        /// Names of the splits in the schema.
        known: String,
    },
    /// This split does not exist below the root.
    #[error("{}: has no split {split:?}; it has {found}", .root.display())]
    NoSplit {
        /// The data set's root.
        root: PathBuf,
        /// The split.
        split: String,
        /// The splits that exist.
        found: String,
    },
    /// The files are not a data set, or not the requested kind of data set.
    #[error("{}: {reason}", .path.display())]
    Layout {
        /// The data set's root, or the folder or file concerned.
        path: PathBuf,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// No field of the data set can be a task.
    #[error("{}: no field has classes to learn ({reasons})", .path.display())]
    NoClasses {
        /// The data set's root.
        path: PathBuf,
        /// Why each field is none.
        reasons: String,
    },
    /// Shares were given for a data set that has the splits train and valid.
    #[error("{}: has the splits train and valid, so there is nothing to divide", .root.display())]
    NothingToDivide {
        /// The data set's root.
        root: PathBuf,
    },
    /// Three shares were given for a data set that has a test split.
    #[error("{}: has a test split, so only train and valid can be made", .root.display())]
    HasTest {
        /// The data set's root.
        root: PathBuf,
    },
    /// A line of a table or list is invalid.
    #[error("{}, line {line}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The schema is invalid.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The annotation file cannot be read.
    #[error("{}: the annotations cannot be read: {reason}", .path.display())]
    Io {
        /// The annotation file.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// The annotation file is not the expected JSON.
    #[error("{}, line {line}, column {column}: {reason}", .path.display())]
    Json {
        /// The annotation file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// The parser's message.
        reason: String,
    },
}
