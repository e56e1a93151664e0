//! Reads clips from disk.
//!
//! [`read_resized`] reads the requested frames of a clip as 8-bit RGB `[T, H, W, 3]` and resizes them
//! to the model's input size as they are decoded; [`verify_clip`] decodes a whole clip. H.264 in mp4
//! is decoded in process; every other codec or container is passed to an `ffmpeg` program, if there is
//! one; a folder of images is a clip too. Nothing in a file is trusted: a damaged clip is an error,
//! never a panic.
//!
//! Frames are upright: a rotation that the container demands is applied. They are not stretched:
//! [`ClipInfo::pixel_aspect`] states the shape of their pixels. Colours are converted with the
//! matrix and range that the stream, or else its container, states, and as BT.601 with limited
//! range if neither does; each pixel takes the nearest chroma sample.

mod cancel;
mod colour;
mod ffmpeg;
mod h264;
mod hidden;
mod images;
mod mp4;
mod orientation;
mod requested;
mod resolve;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::clip::{ClipError, ClipInfo, Frame, Frames};
use super::resize::Resizer;
use h264::Movie;

pub use cancel::Cancel;
pub(crate) use hidden::is_hidden;
pub(crate) use images::has_image_extension;
pub(crate) use resolve::has_clip_extension;
pub use resolve::resolve_clip;

/// Receives decoded frames.
trait Sink {
    /// Receives a frame.
    fn take(&mut self, frame: Frame<'_>) -> Result<(), ClipError>;

    /// Returns memory for a frame of this size that is requested at `positions`, if the sink needs
    /// the frame unchanged: it is then decoded directly into that memory, which saves a copy, and
    /// [`Sink::filled`] is called.
    fn slot(&mut self, _height: usize, _width: usize, _positions: &[usize]) -> Option<&mut [u8]> {
        None
    }

    /// Called after the frame has been decoded into [`Sink::slot`].
    fn filled(&mut self, _positions: &[usize]) {}
}

impl<F: FnMut(Frame<'_>) -> Result<(), ClipError>> Sink for F {
    fn take(&mut self, frame: Frame<'_>) -> Result<(), ClipError> {
        self(frame)
    }
}

/// The reason why decoding in process stops.
enum Stop {
    /// The clip cannot be read.
    Final(ClipError),
    /// The ffmpeg program may be able to read the clip; the error applies if there is none.
    Fallback(ClipError),
}

impl Stop {
    /// Returns the error if nothing else can read the clip.
    fn into_error(self) -> ClipError {
        match self {
            Self::Final(error) | Self::Fallback(error) => error,
        }
    }
}

impl From<ClipError> for Stop {
    fn from(error: ClipError) -> Self {
        Self::Final(error)
    }
}

/// Reads the requested frames of a clip at full size, `[T, H, W, 3]` in the order that `select`
/// returned; see [`visit_frames`]. Used in tests.
#[doc(hidden)]
pub fn read_clip(
    path: &Path,
    mut select: impl FnMut(&ClipInfo) -> Vec<usize>,
) -> Result<(ClipInfo, Frames), ClipError> {
    let count = Cell::new(0);
    let mut data = Vec::new();
    let refused = Cell::new(None);
    let select = |info: &ClipInfo| {
        let requested = select(info);
        count.set(requested.len());
        // Checked before anything is decoded.
        if let Err(error) = frame_buffer(path, requested.len(), info.width * info.height * 3) {
            refused.set(Some(error));
            return Vec::new();
        }
        requested
    };
    let info = visit_frames(path, select, |frame| {
        let size = frame.data.len();
        if data.len() != count.get() * size {
            data = frame_buffer(path, count.get(), size)?;
        }
        for &position in frame.positions {
            data[position * size..][..size].copy_from_slice(frame.data);
        }
        Ok(())
    })?;
    if let Some(error) = refused.take() {
        return Err(error);
    }
    let frames = Frames { data, count: count.get(), height: info.height, width: info.width };
    Ok((info, frames))
}

/// Reads the requested frames of a clip at the size of `resizer` into `out`, `[T, H, W, 3]`.
///
/// `path` is resolved by [`resolve_clip`]. `select` gets the clip's properties and returns T
/// indices in display order, below `info.frames`, in any order and possibly repeated. It is called
/// again if ffmpeg has to take over, which may find other frames. Each frame is decoded and resized
/// once, so that only one frame of full size is in memory at a time. After an error, the content of
/// `out` is undefined.
///
/// # Errors
/// [`ClipError`].
pub fn read_resized(
    path: &Path,
    select: impl FnMut(&ClipInfo) -> Vec<usize>,
    resizer: &mut Resizer,
    out: &mut [u8],
) -> Result<ClipInfo, ClipError> {
    decode(path, select, &mut ResizingSink { path, resizer, out })
}

/// Writes frames at the resizer's size into a buffer.
struct ResizingSink<'a> {
    path: &'a Path,
    resizer: &'a mut Resizer,
    out: &'a mut [u8],
}

impl Sink for ResizingSink<'_> {
    fn take(&mut self, frame: Frame<'_>) -> Result<(), ClipError> {
        let Frame { data, height, width, positions } = frame;
        let (Some(&first), Some(&last)) = (positions.first(), positions.last()) else {
            return Ok(());
        };
        let size = self.resizer.bytes();
        let Some(out) = self.out.get_mut(..(last + 1) * size) else {
            let reason = format!("the output has no space for frame {last} of its window");
            return Err(damaged(self.path, reason));
        };
        let resized = self.resizer.frame(data, height, width, &mut out[first * size..][..size]);
        resized.map_err(|error| damaged(self.path, error.to_string()))?;
        self.filled(positions);
        Ok(())
    }

    fn slot(&mut self, height: usize, width: usize, positions: &[usize]) -> Option<&mut [u8]> {
        let size = self.resizer.bytes();
        let out = self.out.get_mut(..(positions.last()? + 1) * size)?;
        self.resizer.keeps(height, width).then(|| &mut out[positions[0] * size..][..size])
    }

    fn filled(&mut self, positions: &[usize]) {
        let size = self.resizer.bytes();
        let Some((&first, repeats)) = positions.split_first() else { return };
        for &position in repeats {
            self.out.copy_within(first * size..(first + 1) * size, position * size);
        }
    }
}

/// Decodes the requested frames of a clip and passes each of them to `visit` once, in no particular
/// order, as soon as it is decoded, so that only one frame of full size is in memory.
///
/// `select` is as for [`read_resized`]; if it returns nothing, nothing is decoded. Decoding starts
/// at the sync sample before the first requested frame, ends with the last one, and skips frames
/// that are neither requested nor referenced. If ffmpeg takes over halfway, `visit` gets the frames
/// a second time. An error from `visit` ends the reading. Used in tests.
#[doc(hidden)]
pub fn visit_frames(
    path: &Path,
    select: impl FnMut(&ClipInfo) -> Vec<usize>,
    mut visit: impl FnMut(Frame<'_>) -> Result<(), ClipError>,
) -> Result<ClipInfo, ClipError> {
    decode(path, select, &mut visit)
}

fn decode(
    path: &Path,
    mut select: impl FnMut(&ClipInfo) -> Vec<usize>,
    sink: &mut dyn Sink,
) -> Result<ClipInfo, ClipError> {
    let path = resolve_clip(path)?;
    if path.is_dir() {
        let read = guarded(&path, || Ok(images::read(&path, select, sink)?));
        return read.map_err(Stop::into_error);
    }
    let in_process = guarded(&path, || {
        let mut movie = Movie::open(&path)?;
        let frames = checked(&path, movie.info(), select(movie.info()))?;
        movie.read(&frames, sink)?;
        Ok(movie.info().clone())
    });
    match in_process {
        Ok(info) => Ok(info),
        Err(Stop::Final(error)) => Err(error),
        Err(Stop::Fallback(refused)) => {
            let info = probe(&path, refused)?;
            let frames = checked(&path, &info, select(&info))?;
            ffmpeg::read(&path, &info, &frames, sink)?;
            Ok(info)
        }
    }
}

/// Decodes the whole clip and returns its properties.
///
/// # Errors
/// [`ClipError`]; any decoder error or missing frame is [`ClipError::Damaged`].
pub fn verify_clip(path: &Path) -> Result<ClipInfo, ClipError> {
    let path = resolve_clip(path)?;
    if path.is_dir() {
        return guarded(&path, || Ok(images::verify(&path)?)).map_err(Stop::into_error);
    }
    let in_process = guarded(&path, || {
        let mut movie = Movie::open(&path)?;
        movie.visit_luma(|_, _| {})?;
        Ok(movie.info().clone())
    });
    match in_process {
        Ok(info) => Ok(info),
        Err(Stop::Final(error)) => Err(error),
        Err(Stop::Fallback(refused)) => probe(&path, refused),
    }
}

/// Returns the properties of a clip that is not decoded in process; `refused` is the reason.
fn probe(path: &Path, refused: ClipError) -> Result<ClipInfo, ClipError> {
    log::debug!("{refused}: trying ffmpeg");
    let stated = mp4::statement(path);
    let info = ffmpeg::probe(path, refused, stated.spliced)?;
    // ffmpeg rotates frames, but does not report it.
    let rotation = if stated.rotation == 0 { info.rotation } else { stated.rotation };
    Ok(ClipInfo { rotation, mirrored: stated.mirrored, ..info })
}

/// Passes the luma plane of every shown frame to `visit`, before any conversion: its index in
/// display order and its `[H, W]` bytes (16 to 235), in decoding order. Works only for clips that
/// are decoded in process. Used in tests.
#[doc(hidden)]
pub fn visit_luma(path: &Path, visit: impl FnMut(usize, &[u8])) -> Result<ClipInfo, ClipError> {
    let path = resolve_clip(path)?;
    let result = guarded(&path, || {
        let mut movie = Movie::open(&path)?;
        movie.visit_luma(visit)?;
        Ok(movie.info().clone())
    });
    result.map_err(Stop::into_error)
}

/// Runs a step of in-process decoding and turns panics into errors. The parsers claim not to panic
/// on malformed input, but they are young, and one bad clip must not end a training run.
fn guarded<T>(path: &Path, step: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err(Stop::Fallback(damaged(path, "the decoder failed"))))
}

/// Refuses indices beyond the clip's end.
fn checked(path: &Path, info: &ClipInfo, frames: Vec<usize>) -> Result<Vec<usize>, ClipError> {
    match frames.iter().find(|&&index| index >= info.frames) {
        None => Ok(frames),
        Some(index) => {
            let reason = format!("frame {index} was requested, but it only has {}", info.frames);
            Err(damaged(path, reason))
        }
    }
}

/// Reduces a ratio to lowest terms; 1:1 if it is unknown.
fn lowest_terms([width, height]: [u32; 2]) -> [u32; 2] {
    let (mut divisor, mut rest) = (width, height);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    if width == 0 || height == 0 { [1, 1] } else { [width / divisor, height / divisor] }
}

fn damaged(path: &Path, reason: impl Into<String>) -> ClipError {
    ClipError::Damaged { path: path.to_path_buf(), reason: reason.into() }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ClipError {
    ClipError::Io { path: path.to_path_buf(), reason: error.to_string() }
}

fn unsupported(path: &Path, what: impl Into<String>) -> ClipError {
    ClipError::Unsupported { path: path.to_path_buf(), what: what.into() }
}

/// Maximum size of the frames that one call returns, bytes: twenty frames of 4K, eighty of full HD.
/// Sizes come from files, and a system that overcommits memory would not refuse the allocation, but
/// kill the program when the memory is written to.
const MAX_FRAMES: usize = 512 << 20;

/// Allocates zeroed memory for `count` frames of `size` bytes.
#[allow(clippy::slow_vector_initialization)] // `vec![0; n]` would abort if memory is short.
fn frame_buffer(path: &Path, count: usize, size: usize) -> Result<Vec<u8>, ClipError> {
    let bytes = count.checked_mul(size).filter(|&bytes| bytes <= MAX_FRAMES);
    let mut buffer = Vec::new();
    match bytes.map(|bytes| buffer.try_reserve_exact(bytes).map(|()| bytes)) {
        Some(Ok(bytes)) => {
            buffer.resize(bytes, 0);
            Ok(buffer)
        }
        _ => Err(damaged(path, format!("{count} frames of {size} bytes do not fit in memory"))),
    }
}
