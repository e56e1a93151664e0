//! Files that a command writes at its end. Before its work begins, it checks that they can be written.

use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, ImageError, ImageFormat, RgbImage};

use super::Failure;
use super::advice::output_failure;
use crate::atomic_file::linked;
use crate::checkpoint::{CONFIG, CheckpointError, VALID_PREDICTIONS, write_atomically};
use crate::data::DataSource;
use crate::data::video::resolve_clip;

/// Checks that a file with this extension (`"png"`) can be written to `path`, the value of `option`.
///
/// # Errors
/// A usage failure that says what is wrong and what to do.
pub(super) fn check_out_file(option: &str, path: &Path, extension: &str) -> Result<(), Failure> {
    if !path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension)) {
        return Err(refused(option, path, &format!("the name must end with .{extension}")));
    }
    check_writable(option, path)
}

/// Checks that a file can be written to `path`, the value of `option`.
///
/// # Errors
/// A usage failure that says what is wrong and what to do.
pub(super) fn check_writable(option: &str, path: &Path) -> Result<(), Failure> {
    let refuse = |reason: String| Err(refused(option, path, &reason));
    match path.metadata() {
        Ok(existing) if existing.is_dir() => {
            return refuse("is a folder; give the name of a file".to_owned());
        }
        // Pipes and devices are written to directly.
        Ok(existing) if !existing.is_file() => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        // For example, the name is too long.
        Err(error) => return refuse(format!("cannot be written: {error}; choose another name")),
    }
    // A symbolic link is kept, and its target is written.
    let target = path.canonicalize().ok().filter(|_| path.is_symlink());
    let folder = match target.as_deref().unwrap_or(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return refuse(format!("there is no folder {}; create it", folder.display()));
    }
    // The file will first be written under a temporary name in its folder: try the same, with a file
    // that is removed again.
    match tempfile::Builder::new().prefix(".polyview").tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => refuse(format!("cannot be written: {error}; choose another file")),
    }
}

fn refused(option: &str, path: &Path, reason: &str) -> Failure {
    Failure::usage(format!("{option} {}: {reason}", path.display()))
}

/// Refuses to overwrite one of these files of a data set, or a file in a clip that is a folder of
/// images.
pub(super) fn protect_data<'a>(
    option: &str,
    path: &Path,
    clips: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Failure> {
    if clips.into_iter().any(|clip| is_within(path, clip)) {
        return Err(refused(option, path, "belongs to the data set; choose another file"));
    }
    Ok(())
}

/// Refuses to overwrite any file or clip of a data set, in any split. If a split cannot be read, its clips are
/// not known, and no file in the data set's folder is written.
pub(super) fn protect_data_set(
    option: &str,
    path: &Path,
    source: &DataSource,
) -> Result<(), Failure> {
    let mut files = source.files();
    for split in source.stored() {
        match split {
            // Annotations may name clips without their extension.
            Ok(split) => {
                let clips = split.clips().into_iter();
                files.extend(clips.map(|clip| resolve_clip(&clip).unwrap_or(clip)));
            }
            Err((name, error)) if is_within(path, source.dir()) => {
                let reason = format!(
                    "is in the folder of the data set, and may belong to its split {name}, which cannot be \
                     read ({error}); choose another file"
                );
                return Err(refused(option, path, &reason));
            }
            Err(_) => {}
        }
    }
    protect_data(option, path, files.iter().map(PathBuf::as_path))
}

/// Number of bytes at a file's start by which it is recognised.
const HEAD: u64 = 4096;

/// Refuses to replace a file, unless it is empty or begins like those that the command writes. `what`
/// names these in the error.
pub(super) fn protect_other_file(
    option: &str,
    path: &Path,
    what: &str,
    is_ours: impl Fn(&[u8]) -> bool,
) -> Result<(), Failure> {
    if !path.is_file() {
        return Ok(());
    }
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    if read.is_ok() && (head.is_empty() || is_ours(&head)) {
        return Ok(());
    }
    let reason = format!("already exists and is not {what}; choose another file");
    Err(refused(option, path, &reason))
}

/// Refuses to overwrite the checkpoint `read`, any other checkpoint of a run (it has its state beside
/// it), and a run's predictions for the validation split.
pub(super) fn protect_checkpoint(option: &str, path: &Path, read: &Path) -> Result<(), Failure> {
    let is_of_a_run = path.exists() && path.with_extension("state").exists();
    if is_of_a_run || is_within(path, read) {
        return Err(refused(option, path, "is a checkpoint; choose another file"));
    }
    let is_table = path.file_name().is_some_and(|name| name == VALID_PREDICTIONS);
    if is_table && path.exists() && path.with_file_name(CONFIG).exists() {
        return Err(refused(option, path, "belongs to a run; choose another file"));
    }
    Ok(())
}

/// Returns whether a file, which need not exist yet, is `other` or lies in it.
fn is_within(file: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| match path.as_os_str().is_empty() {
        true => Path::new(".").canonicalize(),
        false => path.canonicalize(),
    };
    let folder = absolute(file.parent().unwrap_or(Path::new("")));
    match (folder, file.file_name(), absolute(other)) {
        (Ok(folder), Some(name), Ok(other)) => folder.join(name).starts_with(other),
        _ => false,
    }
}

/// Writes a picture atomically.
pub(super) fn write_png(option: &str, path: &Path, image: &RgbImage) -> Result<(), Failure> {
    let mut png = Cursor::new(Vec::new());
    let encoded = image.write_to(&mut png, ImageFormat::Png).map(|()| png.into_inner());
    write_encoded(option, path, encoded)
}

/// Writes frames as an endless animation, atomically.
pub(super) fn write_gif(
    option: &str,
    path: &Path,
    frames: Vec<RgbImage>,
    fps: f64,
) -> Result<(), Failure> {
    let delay = Delay::from_saturating_duration(Duration::from_secs_f64(1.0 / fps));
    let frames = frames.into_iter().map(|frame| {
        let rgba = DynamicImage::ImageRgb8(frame).to_rgba8();
        Frame::from_parts(rgba, 0, 0, delay)
    });
    let mut gif = Vec::new();
    let mut encoder = GifEncoder::new(&mut gif);
    let encoded = encoder.set_repeat(Repeat::Infinite).and_then(|()| encoder.encode_frames(frames));
    drop(encoder);
    write_encoded(option, path, encoded.map(|()| gif))
}

fn write_encoded(
    option: &str,
    path: &Path,
    encoded: Result<Vec<u8>, ImageError>,
) -> Result<(), Failure> {
    let encoded = encoded.map_err(|error| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    });
    encoded
        .and_then(|bytes| write_atomically(&linked(path), &bytes))
        .map_err(|error| output_failure(option, &error))
}
