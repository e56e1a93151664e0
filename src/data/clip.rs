//! Decoded frames, properties of clips, and errors of reading them. Bytes only, no tensors.

use std::path::PathBuf;

/// Frames of one clip as 8-bit RGB, `[T, H, W, 3]` row-major. For tests.
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
    /// Bytes of frame `t`, `[H, W, 3]`.
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
    /// Its positions among the requested frames, ascending; more than one where it repeats.
    pub positions: &'a [usize],
}

/// Properties of a clip that are known before its frames are decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipInfo {
    /// Number of frames to be shown (after applying the container's edit list).
    pub frames: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames per second.
    pub fps: f64,
    /// Codec name as ffmpeg spells it ("h264", "hevc", "png", …).
    pub codec: String,
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
    /// A codec or container that is not decoded in process, and there is no ffmpeg program.
    #[error("{}: {what} is not decoded in process: install ffmpeg, or convert the clip to H.264 in mp4", .path.display())]
    Unsupported {
        /// The clip.
        path: PathBuf,
        /// The codec or container, as far as it is known.
        what: String,
    },
    /// A truncated or corrupt file.
    #[error("{}: damaged clip: {reason}", .path.display())]
    Damaged {
        /// The clip.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl ClipError {
    /// A short name for counts and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Empty(_) => "empty",
            Self::Io { .. } => "unreadable",
            Self::NoVideo(_) => "no video",
            Self::Unsupported { .. } => "unsupported",
            Self::Damaged { .. } => "damaged",
        }
    }
}
