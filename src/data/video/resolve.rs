//! From the name in an annotation to a file or folder on disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::clip::ClipError;

/// Endings tried in this order, each as written and in capitals.
const ENDINGS: [&str; 5] = ["mp4", "mkv", "avi", "mov", "webm"];

/// Finds the file or folder that `path` means: the file as named; else the name with `.mp4`,
/// `.mkv`, `.avi`, `.mov` or `.webm` added; else a folder of that name, which holds images.
pub fn resolve_clip(path: &Path) -> Result<PathBuf, ClipError> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    for ending in ENDINGS {
        for ending in [ending.to_string(), ending.to_uppercase()] {
            // Added, not replaced: a clip's name may hold a dot of its own.
            let mut name = OsString::from(path);
            name.push(".");
            name.push(&ending);
            let candidate = PathBuf::from(name);
            if candidate.is_file() {
                return Ok(candidate);
            }
        }
    }
    if path.is_dir() { Ok(path.to_path_buf()) } else { Err(ClipError::Missing(path.to_path_buf())) }
}
