//! A clip as a folder of images: jpg, jpeg or png, one frame each, in natural order of their
//! names (`2.png` before `10.png`), all of one size, at 25 frames per second. Hidden files are
//! skipped.

use std::fs;
use std::path::{Path, PathBuf};

use image::ImageReader;

use super::super::clip::{ClipError, ClipInfo, Frame};
use super::super::natural::natural_order;
use super::requested::Requested;
use super::{Sink, checked, damaged, is_hidden, unreadable};

/// A folder has no frame rate; this is the one of (PAL) broadcast video.
const FPS: f64 = 25.0;

/// Passes the requested images to `sink`.
pub(super) fn read(
    folder: &Path,
    select: impl FnOnce(&ClipInfo) -> Vec<usize>,
    sink: &mut dyn Sink,
) -> Result<ClipInfo, ClipError> {
    let (files, info) = open(folder)?;
    let requested = Requested::new(&checked(folder, &info, select(&info))?);
    for (t, file) in files.iter().enumerate() {
        let positions = requested.positions(t);
        if !positions.is_empty() {
            let data = &decode(file, &info)?;
            sink.take(Frame { data, height: info.height, width: info.width, positions })?;
        }
    }
    Ok(info)
}

/// Decodes every image, and keeps none of them.
pub(super) fn verify(folder: &Path) -> Result<ClipInfo, ClipError> {
    let (files, info) = open(folder)?;
    for file in &files {
        decode(file, &info)?;
    }
    Ok(info)
}

/// Lists the images; the header of the first one gives the size.
fn open(folder: &Path) -> Result<(Vec<PathBuf>, ClipInfo), ClipError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| unreadable(folder, &e))? {
        let entry = entry.map_err(|e| unreadable(folder, &e))?;
        let path = entry.path();
        if !is_hidden(&entry.file_name()) && codec(&path).is_some() && path.is_file() {
            files.push(path);
        }
    }
    natural_order(&mut files);
    let Some(first) = files.first() else {
        return Err(ClipError::Empty(folder.to_path_buf()));
    };
    let (width, height) = ImageReader::open(first)
        .map_err(|e| unreadable(first, &e))?
        .into_dimensions()
        .map_err(|e| damaged(first, e.to_string()))?;
    let info = ClipInfo {
        frames: files.len(),
        width: width as usize,
        height: height as usize,
        fps: FPS,
        codec: codec(first).expect("only files with a codec are listed").to_string(),
        ..ClipInfo::default()
    };
    if width == 0 || height == 0 {
        return Err(damaged(first, "the image has no pixels"));
    }
    Ok((files, info))
}

/// One image as `[H, W, 3]` bytes of the clip's size.
fn decode(file: &Path, info: &ClipInfo) -> Result<Vec<u8>, ClipError> {
    let image = ImageReader::open(file)
        .map_err(|e| unreadable(file, &e))?
        .decode()
        .map_err(|e| damaged(file, e.to_string()))?
        .into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    if (width, height) != (info.width, info.height) {
        let (w, h) = (info.width, info.height);
        return Err(damaged(file, format!("{width}x{height}, but the clip's first is {w}x{h}")));
    }
    Ok(image.into_raw())
}

/// The codec by the file's extension, as ffmpeg spells it.
fn codec(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => Some("mjpeg"),
        "png" => Some("png"),
        _ => None,
    }
}
