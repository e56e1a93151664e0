//! Reading clips from disk.
//!
//! [`read_clip`] takes a clip by the name an annotation gives it and returns only the frames that
//! are wanted, as 8-bit RGB `[T, H, W, 3]`; [`read_resized`] brings them to the model's size as they
//! are decoded. H.264 in mp4 is decoded in process; every other codec or container goes to an
//! `ffmpeg` program, if the machine has one; a folder of images is a clip too. Nothing in a file is trusted: a damaged clip is an error of its own, never a panic.
//!
//! Colours: like ffmpeg for untagged clips, BT.601 with limited range and the nearest chroma
//! sample. Colour tags of an H.264 stream are not read.

mod ffmpeg;
mod h264;
mod hidden;
mod images;
mod index;
mod mp4;
mod resolve;
mod wanted;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::clip::{ClipError, ClipInfo, Frame, Frames};
use super::resize::Resizer;
use h264::Movie;

pub(crate) use hidden::is_hidden;
pub use resolve::resolve_clip;

/// Where decoded frames go.
trait Sink {
    /// Takes a frame.
    fn take(&mut self, frame: Frame<'_>) -> Result<(), ClipError>;

    /// Where a frame of this size goes that is wanted at `places`, if it goes there as it is: then
    /// it is decoded there, which saves a copy, and told to be there by [`Sink::placed`].
    fn room(&mut self, _height: usize, _width: usize, _places: &[usize]) -> Option<&mut [u8]> {
        None
    }

    /// The frame is where [`Sink::room`] said.
    fn placed(&mut self, _places: &[usize]) {}
}

impl<F: FnMut(Frame<'_>) -> Result<(), ClipError>> Sink for F {
    fn take(&mut self, frame: Frame<'_>) -> Result<(), ClipError> {
        self(frame)
    }
}

/// Why the in-process path stops.
enum Stop {
    /// Nothing else would help.
    Final(ClipError),
    /// The ffmpeg program may know more; this is what to say where there is none.
    Fallback(ClipError),
}

impl From<ClipError> for Stop {
    fn from(error: ClipError) -> Self {
        Self::Final(error)
    }
}

/// Reads the wanted frames of a clip: what [`visit_frames`] hands over, `[T, H, W, 3]` in the order
/// that `select` gave.
pub fn read_clip(
    path: &Path,
    select: impl FnOnce(&ClipInfo) -> Vec<usize>,
) -> Result<(ClipInfo, Frames), ClipError> {
    let count = Cell::new(0);
    let mut data = Vec::new();
    let refused = Cell::new(None);
    let select = |info: &ClipInfo| {
        let wanted = select(info);
        count.set(wanted.len());
        // Asked before anything is decoded for it.
        if let Err(error) = frame_buffer(path, wanted.len(), info.width * info.height * 3) {
            refused.set(Some(error));
            return Vec::new();
        }
        wanted
    };
    let info = visit_frames(path, select, |frame| {
        let size = frame.data.len();
        if data.len() != count.get() * size {
            data = frame_buffer(path, count.get(), size)?;
        }
        for &place in frame.places {
            data[place * size..][..size].copy_from_slice(frame.data);
        }
        Ok(())
    })?;
    if let Some(error) = refused.take() {
        return Err(error);
    }
    let frames = Frames { data, count: count.get(), height: info.height, width: info.width };
    Ok((info, frames))
}

/// Reads the wanted frames of a clip at the size of `resizer` into `out`, which has room for
/// as many as `select` names. Each frame is resized as it is decoded, and once where it repeats, so
/// that a clip of large frames takes the memory of one. On error `out` holds anything.
pub fn read_resized(
    path: &Path,
    select: impl FnOnce(&ClipInfo) -> Vec<usize>,
    resizer: &mut Resizer,
    out: &mut [u8],
) -> Result<ClipInfo, ClipError> {
    hand_over(path, select, &mut Slots { path, resizer, out })
}

/// A clip's frames at the model's size, one after the other.
struct Slots<'a> {
    path: &'a Path,
    resizer: &'a mut Resizer,
    out: &'a mut [u8],
}

impl Sink for Slots<'_> {
    fn take(&mut self, Frame { data, height, width, places }: Frame<'_>) -> Result<(), ClipError> {
        let (Some(&first), Some(&last)) = (places.first(), places.last()) else {
            return Ok(());
        };
        let size = self.resizer.bytes();
        let Some(out) = self.out.get_mut(..(last + 1) * size) else {
            let reason = format!("there is no room for frame {last} of its window");
            return Err(damaged(self.path, reason));
        };
        let resized = self.resizer.frame(data, height, width, &mut out[first * size..][..size]);
        resized.map_err(|error| damaged(self.path, error.to_string()))?;
        self.placed(places);
        Ok(())
    }

    fn room(&mut self, height: usize, width: usize, places: &[usize]) -> Option<&mut [u8]> {
        let size = self.resizer.bytes();
        let out = self.out.get_mut(..(places.last()? + 1) * size)?;
        self.resizer.keeps(height, width).then(|| &mut out[places[0] * size..][..size])
    }

    fn placed(&mut self, places: &[usize]) {
        let size = self.resizer.bytes();
        let Some((&first, repeats)) = places.split_first() else { return };
        for &place in repeats {
            self.out.copy_within(first * size..(first + 1) * size, place * size);
        }
    }
}

/// Decodes the wanted frames of a clip and hands over each of them once, in no certain order, as
/// soon as it is there: nobody has to hold more than one of full size.
///
/// `path` is resolved by [`resolve_clip`]. `select` gets the clip's facts and returns the wanted
/// frames as display-order indices below `info.frames`, in any order and as often as wanted. An
/// empty answer decodes nothing, which is how to get the facts alone. Decoding starts at the sync
/// sample before the first wanted frame, ends with the last one, and leaves out what is neither
/// wanted nor needed by other frames. Where ffmpeg takes over a clip half way, `visit` gets the
/// frames once more. An error that it returns ends the reading.
pub fn visit_frames(
    path: &Path,
    select: impl FnOnce(&ClipInfo) -> Vec<usize>,
    mut visit: impl FnMut(Frame<'_>) -> Result<(), ClipError>,
) -> Result<ClipInfo, ClipError> {
    hand_over(path, select, &mut visit)
}

fn hand_over(
    path: &Path,
    select: impl FnOnce(&ClipInfo) -> Vec<usize>,
    sink: &mut dyn Sink,
) -> Result<ClipInfo, ClipError> {
    let path = resolve_clip(path)?;
    if path.is_dir() {
        return images::read(&path, select, sink);
    }
    let refused = match guarded(&path, || Movie::open(&path)) {
        Ok(mut movie) => {
            let info = movie.info().clone();
            let wanted = checked(&path, &info, select(&info))?;
            return match guarded(&path, || movie.read(&wanted, sink)) {
                Ok(()) => Ok(info),
                Err(Stop::Final(error)) => Err(error),
                Err(Stop::Fallback(refused)) => {
                    let found = ffmpeg::probe(&path, refused)?;
                    same_count(&path, &info, &found)?;
                    ffmpeg::read(&path, &found, &wanted, sink)?;
                    Ok(found)
                }
            };
        }
        Err(Stop::Final(error)) => return Err(error),
        Err(Stop::Fallback(refused)) => refused,
    };
    let info = ffmpeg::probe(&path, refused)?;
    let wanted = checked(&path, &info, select(&info))?;
    ffmpeg::read(&path, &info, &wanted, sink)?;
    Ok(info)
}

/// Decodes the whole clip, keeping nothing, and returns its facts: any decoder error or a missing
/// frame makes the clip [`ClipError::Damaged`].
pub fn verify_clip(path: &Path) -> Result<ClipInfo, ClipError> {
    let path = resolve_clip(path)?;
    if path.is_dir() {
        return images::verify(&path);
    }
    let (refused, expected) = match guarded(&path, || Movie::open(&path)) {
        Ok(mut movie) => match guarded(&path, || movie.visit_luma(|_, _| {})) {
            Ok(()) => return Ok(movie.info().clone()),
            Err(Stop::Final(error)) => return Err(error),
            Err(Stop::Fallback(refused)) => (refused, Some(movie.info().clone())),
        },
        Err(Stop::Final(error)) => return Err(error),
        Err(Stop::Fallback(refused)) => (refused, None),
    };
    let found = ffmpeg::probe(&path, refused)?;
    if let Some(info) = expected {
        same_count(&path, &info, &found)?;
    }
    Ok(found)
}

/// Hands the brightness plane of every shown frame to `visit`, as the decoder made it, before any
/// conversion: display-order index and `[H, W]` bytes (16 to 235), in decoding order. Only for
/// clips that are decoded in process; it is what golden tests compare.
pub fn visit_luma(path: &Path, visit: impl FnMut(usize, &[u8])) -> Result<ClipInfo, ClipError> {
    let path = resolve_clip(path)?;
    let result = guarded(&path, || {
        let mut movie = Movie::open(&path)?;
        movie.visit_luma(visit)?;
        Ok(movie.info().clone())
    });
    result.map_err(|stop| match stop {
        Stop::Final(error) | Stop::Fallback(error) => error,
    })
}

/// Runs a step of the in-process path. The parsers promise not to panic on hostile bytes, but they
/// are young: should one do so after all, one bad clip must not end a training run.
fn guarded<T>(path: &Path, step: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err(damaged(path, "the decoder gave up on it").into()))
}

/// Refuses indices that the clip does not have.
fn checked(path: &Path, info: &ClipInfo, wanted: Vec<usize>) -> Result<Vec<usize>, ClipError> {
    match wanted.iter().find(|&&index| index >= info.frames) {
        None => Ok(wanted),
        Some(index) => {
            Err(damaged(path, format!("frame {index} was asked for, it has {}", info.frames)))
        }
    }
}

/// The container and ffmpeg must agree on the number of frames.
fn same_count(path: &Path, container: &ClipInfo, found: &ClipInfo) -> Result<(), ClipError> {
    if container.frames == found.frames {
        return Ok(());
    }
    let (has, got) = (container.frames, found.frames);
    Err(damaged(path, format!("{got} of its {has} frames could be decoded")))
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

/// The most bytes of frames that one call returns: twenty frames of 4K, eighty of full HD. Sizes
/// come from files, and a system that promises more memory than it has would end the program only
/// when it is written to.
const MAX_FRAMES: usize = 512 << 20;

/// Room for `count` frames of `size` bytes, all zero.
#[allow(clippy::slow_vector_initialization)] // `vec![0; n]` would abort where memory is short.
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
