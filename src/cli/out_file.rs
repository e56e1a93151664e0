//! Files that a command writes at its end; that they can be written is checked before its work begins.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, RgbImage};

use super::Failure;
use super::advice::output_failure;
use crate::checkpoint::{CheckpointError, write_atomically};

/// Refuses what cannot become a file with this ending (`"png"`), under the name of its option.
///
/// # Errors
/// A usage failure that says what is wrong and what to do.
pub(super) fn check_out_file(option: &str, path: &Path, ending: &str) -> Result<(), Failure> {
    let refuse =
        |reason: String| Err(Failure::usage(format!("{option} {}: {reason}", path.display())));
    if !path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending)) {
        return refuse(format!("the name must end with .{ending}"));
    }
    if path.is_dir() {
        return refuse("is a folder; give the name of a file".to_owned());
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return refuse(format!("there is no folder {}; create it", folder.display()));
    }
    // The file is written beside its name first, and so is this one, which vanishes again.
    match tempfile::Builder::new().prefix(".polyview").tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => refuse(format!("cannot be written: {error}; choose another file")),
    }
}

/// Writes a picture, whole or not at all.
pub(super) fn write_png(option: &str, path: &Path, image: &RgbImage) -> Result<(), Failure> {
    let mut png = Cursor::new(Vec::new());
    let encoded = image.write_to(&mut png, ImageFormat::Png);
    let encoded = encoded.map_err(|error| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    });
    encoded
        .and_then(|()| write_atomically(path, png.get_ref()))
        .map_err(|error| output_failure(option, &error))
}
