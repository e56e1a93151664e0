//! Finding a clip on disk by its name in an annotation.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::clip::ClipError;

/// Extensions in the order in which they are tried, each in lower and upper case.
const EXTENSIONS: [&str; 5] = ["mp4", "mkv", "avi", "mov", "webm"];

/// Finds the file or folder that `path` means: the file itself; else the name with `.mp4`, `.mkv`,
/// `.avi`, `.mov` or `.webm` appended; else a folder of that name, which contains images.
///
/// # Errors
/// [`ClipError::Missing`].
pub fn resolve_clip(path: &Path) -> Result<PathBuf, ClipError> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    for extension in EXTENSIONS {
        for extension in [extension.to_string(), extension.to_uppercase()] {
            // Appended, not replaced: a clip's name may contain a dot.
            let mut name = OsString::from(path);
            name.push(".");
            name.push(&extension);
            let candidate = PathBuf::from(name);
            if candidate.is_file() {
                return Ok(candidate);
            }
        }
    }
    if path.is_dir() { Ok(path.to_path_buf()) } else { Err(ClipError::Missing(path.to_path_buf())) }
}
