//! Errors of schema files.

use std::path::PathBuf;

/// What is wrong with a schema file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The file could not be read.
    #[error("{}: the schema cannot be read: {reason}", .path.display())]
    Io {
        /// The schema file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Not TOML, an unknown key, a missing key or a value of the wrong type.
    #[error("{file}, line {line}: {reason}")]
    Toml {
        /// The schema file.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// What was found.
        reason: String,
    },
    /// An entry contradicts the rules of schema files.
    #[error("{file}, {entry}: {reason}")]
    Entry {
        /// The schema file.
        file: String,
        /// The entry, as `task "x", class "y"`.
        entry: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}
