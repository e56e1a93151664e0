//! Reads clips that are folders of images: jpg, jpeg, png, bmp or webp, one frame each, in natural
//! order of their names (`2.png` before `10.png`), all of the same size, at 25 frames per second,
//! made upright according to their EXIF orientation. Hidden files are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};

use super::super::clip::{ClipError, ClipInfo, Frame};
use super::super::natural::natural_order;
use super::requested::Requested;
use super::{MAX_FRAMES, Sink, cancel, checked, damaged, is_hidden, unreadable};

/// Frame rate of a folder of images, which has none of its own: that of (PAL) broadcast video.
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
            cancel::check(file)?;
            let data = &decode(file, &info)?;
            sink.take(Frame { data, height: info.height, width: info.width, positions })?;
        }
    }
    Ok(info)
}

/// Decodes every image without keeping any.
pub(super) fn verify(folder: &Path) -> Result<ClipInfo, ClipError> {
    let (files, info) = open(folder)?;
    for file in &files {
        decode(file, &info)?;
    }
    Ok(info)
}

/// Lists the images; the size is taken from the header of the first one.
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
    let Image { size: [width, height], .. } = Image::open(first)?;
    let info = ClipInfo {
        frames: files.len(),
        width,
        height,
        fps: FPS,
        codec: codec(first).expect("only files with a codec are listed").to_string(),
        ..ClipInfo::default()
    };
    if width == 0 || height == 0 {
        return Err(damaged(first, "the image has no pixels"));
    }
    Ok((files, info))
}

/// An image whose header has been read.
struct Image<D> {
    decoder: D,
    /// The transformation that makes the image upright.
    orientation: Orientation,
    /// Width and height of the upright image.
    size: [usize; 2],
}

impl Image<()> {
    /// Reads the header. The format is detected from the file's content, regardless of its
    /// extension. A small file can claim more pixels than fit in memory: such an image is refused
    /// here.
    fn open(file: &Path) -> Result<Image<impl ImageDecoder + use<>>, ClipError> {
        let open = ImageReader::open(file).and_then(ImageReader::with_guessed_format);
        let decoder = open.map_err(|e| unreadable(file, &e))?.into_decoder();
        let mut decoder = decoder.map_err(|e| damaged(file, e.to_string()))?;
        let orientation = decoder.orientation().map_err(|e| damaged(file, e.to_string()))?;
        let (width, height) = decoder.dimensions();
        let frame = (u64::from(width) * u64::from(height)).saturating_mul(3);
        // The stored image may be larger, with an alpha channel or 16 bits per colour.
        if decoder.total_bytes().max(frame) > MAX_FRAMES as u64 {
            let reason = format!("an image of {width}x{height} does not fit in memory");
            return Err(damaged(file, reason));
        }
        let (width, height) = (width as usize, height as usize);
        let size = match orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => [height, width],
            _ => [width, height],
        };
        Ok(Image { decoder, orientation, size })
    }
}

/// Decodes an image to `[H, W, 3]` bytes; it must have the clip's size.
fn decode(file: &Path, info: &ClipInfo) -> Result<Vec<u8>, ClipError> {
    let Image { decoder, orientation, size: [width, height] } = Image::open(file)?;
    let (w, h) = (info.width, info.height);
    if (width, height) != (w, h) {
        return Err(damaged(file, format!("{width}x{height}, but the clip's first is {w}x{h}")));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|e| damaged(file, e.to_string()))?;
    let mut image = DynamicImage::from(image.into_rgb8());
    image.apply_orientation(orientation);
    Ok(image.into_rgb8().into_raw())
}

/// Returns the codec according to the file's extension, as ffmpeg spells it.
fn codec(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => Some("mjpeg"),
        "png" => Some("png"),
        "bmp" => Some("bmp"),
        "webp" => Some("webp"),
        _ => None,
    }
}

/// Returns whether a file has the extension of a supported image format.
pub(crate) fn has_image_extension(path: &Path) -> bool {
    codec(path).is_some()
}
