//! Errors of schema files.

use std::path::PathBuf;

/// The reason why a schema is refused.
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
    /// A requested task does not exist.
    #[error("{name:?} is not a task of the schema {schema}, which has {}", .tasks.join(", "))]
    NoTask {
        /// Name of the requested task.
        name: String,
        /// Name of the schema.
        schema: String,
        /// Names of the schema's tasks.
        tasks: Vec<String>,
    },
    /// An invalid entry.
    #[error("{file}, {entry}: {reason}")]
    Entry {
        /// The schema file.
        file: String,
        /// The entry, for example `task "x", class "y"`.
        entry: String,
        /// What is wrong and what is expected.
        reason: String,
    },
}
