//! Files that a command writes at its end; that they can be written is checked before its work begins.

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

/// Refuses what cannot become a file with this ending (`"png"`), under the name of its option.
///
/// # Errors
/// A usage failure that says what is wrong and what to do.
pub(super) fn check_out_file(option: &str, path: &Path, ending: &str) -> Result<(), Failure> {
    if !path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending)) {
        return Err(refused(option, path, &format!("the name must end with .{ending}")));
    }
    check_writable(option, path)
}

/// Refuses what cannot become a file, under the name of its option.
///
/// # Errors
/// A usage failure that says what is wrong and what to do.
pub(super) fn check_writable(option: &str, path: &Path) -> Result<(), Failure> {
    let refuse = |reason: String| Err(refused(option, path, &reason));
    match path.metadata() {
        Ok(found) if found.is_dir() => {
            return refuse("is a folder; give the name of a file".to_owned());
        }
        // A pipe or a device is written to as it is.
        Ok(found) if !found.is_file() => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        // A name that is too long, for example.
        Err(error) => return refuse(format!("cannot be written: {error}; choose another name")),
    }
    // A link stays, and the file that it names is written.
    let target = path.canonicalize().ok().filter(|_| path.is_symlink());
    let folder = match target.as_deref().unwrap_or(path).parent() {
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

fn refused(option: &str, path: &Path, reason: &str) -> Failure {
    Failure::usage(format!("{option} {}: {reason}", path.display()))
}

/// Refuses a file that is one of these of a data set, or lies in a clip that is a folder of images.
pub(super) fn keep_data<'a>(
    option: &str,
    path: &Path,
    clips: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Failure> {
    if clips.into_iter().any(|clip| is_within(path, clip)) {
        return Err(refused(option, path, "belongs to the data set; choose another file"));
    }
    Ok(())
}

/// The same of all files and clips of a data set, whichever split they are of.
pub(super) fn keep_data_set(option: &str, path: &Path, source: &DataSource) -> Result<(), Failure> {
    let mut files = source.files();
    let splits = source.own_splits().into_iter().filter_map(|(.., split)| split.ok());
    let clips = splits.flat_map(|split| split.clips());
    // Annotations may name clips without their extension.
    files.extend(clips.map(|clip| resolve_clip(&clip).unwrap_or(clip)));
    keep_data(option, path, files.iter().map(PathBuf::as_path))
}

/// Bytes from which a file is recognised.
const HEAD: u64 = 4096;

/// Refuses to replace a file, unless it is empty or begins as one that the command writes, which is `what`.
pub(super) fn keep_others(
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
    let reason = format!("is there already and is not {what}; choose another file");
    Err(refused(option, path, &reason))
}

/// Refuses a file that is the checkpoint which is read, or another one of a run, which has its state beside
/// it.
pub(super) fn keep_checkpoint(option: &str, path: &Path, read: &Path) -> Result<(), Failure> {
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

/// Whether a file, which need not exist yet, is another one or lies in it.
fn is_within(file: &Path, clip: &Path) -> bool {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, file.file_name(), clip.canonicalize()) {
        (Ok(folder), Some(name), Ok(clip)) => folder.join(name).starts_with(clip),
        _ => false,
    }
}

/// Writes a picture, whole or not at all.
pub(super) fn write_png(option: &str, path: &Path, image: &RgbImage) -> Result<(), Failure> {
    let mut png = Cursor::new(Vec::new());
    let encoded = image.write_to(&mut png, ImageFormat::Png).map(|()| png.into_inner());
    write_encoded(option, path, encoded)
}

/// Writes frames as an endless animation, whole or not at all.
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
