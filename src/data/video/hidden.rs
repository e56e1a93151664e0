//! Files that a system leaves among the data, and that are none.

use std::ffi::OsStr;

/// Whether a file's name begins with a dot: macOS writes `.DS_Store`, and on disks that are not its
/// own a `._clip_0.mp4` beside each `clip_0.mp4`, which is no video.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
