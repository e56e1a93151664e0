//! Hidden files, which are not part of a data set.

use std::ffi::OsStr;

/// Returns whether a file's name begins with a dot: macOS writes `.DS_Store`, and on foreign file
/// systems a `._clip_0.mp4` beside each `clip_0.mp4`, which is not a video.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
