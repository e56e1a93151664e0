//! Serialises paths for JSON, which must be Unicode: other bytes become U+FFFD.

use std::path::{Path, PathBuf};

use serde::Serializer;

/// Serialises a field with `#[serde(serialize_with = "lossy::path")]`. Without it, a path that is not
/// Unicode is an error.
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Like [`path`], for a list of paths.
pub(crate) fn paths<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}
