//! Errors of schema files.

use std::path::PathBuf;

/// Why a schema file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The file cannot be read.
    #[error("{}: the schema cannot be read: {reason}", .path.display())]
    Io {
        /// The schema file.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// Invalid TOML, an unknown key, a missing key or a value of the wrong type.
    #[error("{file}, line {line}: {reason}")]
    Toml {
        /// The schema file.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// The parser's message.
        reason: String,
    },
    /// A task that was asked for and is not there.
    #[error("{name:?} is no task of the schema {schema}, which has {}", .tasks.join(", "))]
    NoTask {
        /// What was asked for.
        name: String,
        /// The schema's name.
        schema: String,
        /// Its tasks.
        tasks: Vec<String>,
    },
    /// An invalid entry.
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
