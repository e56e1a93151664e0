//! Decoded frames, properties of clips, and the errors that can occur when clips are read. Frames
//! are plain bytes, not tensors.

use std::path::PathBuf;

/// Frames of one clip as 8-bit RGB, `[T, H, W, 3]` row-major. Used in tests.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// `count * height * width * 3` bytes.
    pub data: Vec<u8>,
    /// Number of frames, T.
    pub count: usize,
    /// Height in pixels, H.
    pub height: usize,
    /// Width in pixels, W.
    pub width: usize,
}

impl Frames {
    /// Returns the bytes of frame `t`, `[H, W, 3]`.
    pub fn frame(&self, t: usize) -> &[u8] {
        let size = self.height * self.width * 3;
        &self.data[t * size..(t + 1) * size]
    }
}

/// One decoded frame, and its positions among the requested frames.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// 8-bit RGB, `[H, W, 3]` row-major.
    pub data: &'a [u8],
    /// Height in pixels, H.
    pub height: usize,
    /// Width in pixels, W.
    pub width: usize,
    /// Positions of the frame among the requested frames, ascending; several if it is repeated.
    pub positions: &'a [usize],
}

/// Properties of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipInfo {
    /// Number of frames that are presented (after applying the container's edit list).
    pub frames: usize,
    /// Width of the upright frames in pixels.
    pub width: usize,
    /// Height of the upright frames in pixels.
    pub height: usize,
    /// Frames per second, on average over the clip's time stamps.
    pub fps: f64,
    /// Largest deviation of a frame's time stamp from its time at a constant `fps`, seconds; 0 if
    /// the time stamps cannot be used.
    pub drift: f64,
    /// Codec name as ffmpeg spells it ("h264", "hevc", "png", …).
    pub codec: String,
    /// Degrees clockwise by which the stored frames have been rotated, as the container demands: 0,
    /// 90, 180 or 270.
    pub rotation: u32,
    /// Whether the stored frames have been mirrored top to bottom before the rotation.
    pub mirrored: bool,
    /// Width and height of a pixel, in lowest terms; `[1, 1]` if pixels are square or the shape is
    /// not stated. Frames are not stretched accordingly.
    pub pixel_aspect: [u32; 2],
    /// Error that the decoder reported about a stream that it decoded nevertheless, such as a
    /// recording that starts between key frames.
    pub complaint: Option<String>,
}

impl Default for ClipInfo {
    /// No frames, 25 frames per second, square pixels.
    fn default() -> Self {
        Self {
            frames: 0,
            width: 0,
            height: 0,
            fps: 25.0,
            drift: 0.0,
            codec: String::new(),
            rotation: 0,
            mirrored: false,
            pixel_aspect: [1, 1],
            complaint: None,
        }
    }
}

impl ClipInfo {
    /// Returns the largest deviation of frames' `(number, time)` pairs from a constant rate that
    /// starts at the first of them.
    pub(super) fn drift(fps: f64, times: impl IntoIterator<Item = (usize, f64)>) -> f64 {
        let mut times = times.into_iter();
        let Some((first, start)) = times.next() else { return 0.0 };
        let deviation =
            |(frame, time): (usize, f64)| ((time - start) - (frame - first) as f64 / fps).abs();
        times.map(deviation).filter(|seconds| seconds.is_finite()).fold(0.0, f64::max)
    }
}

/// Describes how stored frames were made upright; `None` if they are used as stored.
pub(crate) fn made_upright(rotation: u32, mirrored: bool) -> Option<String> {
    match (rotation, mirrored) {
        (0, false) => None,
        (angle, false) => Some(format!("turned by {angle}° clockwise")),
        (0, true) => Some("mirrored top to bottom".to_owned()),
        (180, true) => Some("mirrored left to right".to_owned()),
        (angle, true) => Some(format!("mirrored top to bottom and turned by {angle}° clockwise")),
    }
}

/// Why a clip cannot be read. Every variant names the file.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ClipError {
    /// There is no such file or folder, with any known extension.
    #[error("{}: no such clip", .0.display())]
    Missing(PathBuf),
    /// The file has no content, or the folder no images.
    #[error("{}: the clip is empty", .0.display())]
    Empty(PathBuf),
    /// The file cannot be opened or read.
    #[error("{}: cannot be read: {reason}", .path.display())]
    Io {
        /// The clip.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// A container without a video track.
    #[error("{}: contains no video track", .0.display())]
    NoVideo(PathBuf),
    /// The codec or container is not decoded in process, and there is no ffmpeg program.
    #[error("{}: {what} is not decoded in process: install ffmpeg, or convert the clip to H.264 in mp4", .path.display())]
    Unsupported {
        /// The clip.
        path: PathBuf,
        /// The codec or container, as far as known.
        what: String,
    },
    /// Only ffmpeg can decode the clip, and the ffmpeg program on the PATH does not work.
    #[error("{}: needs ffmpeg, and the ffmpeg on the PATH cannot be used: {reason}", .path.display())]
    Ffmpeg {
        /// The clip.
        path: PathBuf,
        /// Why the program cannot be used.
        reason: String,
    },
    /// The file is truncated or corrupt.
    #[error("{}: damaged clip: {reason}", .path.display())]
    Damaged {
        /// The clip.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The caller did not want to wait any longer.
    #[error("{}: given up: {reason}", .path.display())]
    GivenUp {
        /// The clip.
        path: PathBuf,
        /// Why reading was given up.
        reason: String,
    },
}

impl ClipError {
    /// Returns a short name for counts and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Empty(_) => "empty",
            Self::Io { .. } => "unreadable",
            Self::NoVideo(_) => "no video",
            Self::Unsupported { .. } | Self::Ffmpeg { .. } => "unsupported",
            Self::Damaged { .. } => "damaged",
            Self::GivenUp { .. } => "given up",
        }
    }
}
