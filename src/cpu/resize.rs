//! Resizing of frames to the model's input size.

use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};
use fir::pixels::U8x3;

/// Why frames could not be resized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// A side is 0 or too large.
    #[error("frames of {width}×{height} pixels cannot be resized")]
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The bytes do not fit the stated size.
    #[error("expected {expected} bytes of frame data, got {found}")]
    Bytes {
        /// Bytes expected from count and size.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The resize library returned an error.
    #[error("resizing failed: {0}")]
    Library(String),
}

/// The part to keep of a frame that is longer than the target along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    /// Its upper or left part.
    Start,
    /// Its middle.
    Middle,
    /// Its lower or right part.
    End,
}

/// How a frame is scaled and cropped: scaled to cover the target, then cropped at the centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cover {
    /// Height after scaling, at least the target's.
    pub height: usize,
    /// Width after scaling, at least the target's.
    pub width: usize,
    /// Rows cut off above.
    pub top: usize,
    /// Columns cut off on the left.
    pub left: usize,
}

impl Cover {
    /// Computes the geometry for a frame of `height` × `width` and a target of `to_height` ×
    /// `to_width`: k = max(to_height / height, to_width / width), each side scaled by k and rounded
    /// (halves up), half of the surplus (integer division) cut off above and on the left.
    pub fn new(height: usize, width: usize, to_height: usize, to_width: usize) -> Self {
        let k = (to_height as f64 / height as f64).max(to_width as f64 / width as f64);
        let scale = |side: usize, to: usize| to.max((side as f64 * k + 0.5).floor() as usize);
        let (scaled_height, scaled_width) = (scale(height, to_height), scale(width, to_width));
        Self {
            height: scaled_height,
            width: scaled_width,
            top: (scaled_height - to_height) / 2,
            left: (scaled_width - to_width) / 2,
        }
    }

    /// Returns how many rows and columns are cut off for a target of `to_height` × `to_width`.
    pub fn surplus(&self, to_height: usize, to_width: usize) -> [usize; 2] {
        [self.height - to_height, self.width - to_width]
    }

    /// Returns the same geometry, keeping the given part of the frame.
    #[must_use]
    pub fn keeping(self, crop: Crop, to_height: usize, to_width: usize) -> Self {
        let [rows, columns] = self.surplus(to_height, to_width);
        match crop {
            Crop::Start => Self { top: 0, left: 0, ..self },
            Crop::Middle => self,
            Crop::End => Self { top: rows, left: columns, ..self },
        }
    }
}

/// Scales and crops frames to one target size. It reuses an internal buffer, so use one per thread.
///
/// The filter is bilinear; when shrinking, the kernel widens with the scale (antialiasing), as in
/// Pillow and in torchvision's `resize` with `antialias=True`.
#[derive(Debug)]
pub struct Resizer {
    /// The part to keep of a longer frame; [`Crop::Middle`] by default.
    pub crop: Crop,
    height: usize,
    width: usize,
    engine: fir::Resizer,
}

impl Resizer {
    /// Creates a resizer to `height` × `width` pixels.
    pub fn new(height: usize, width: usize) -> Self {
        Self { crop: Crop::Middle, height, width, engine: fir::Resizer::new() }
    }

    /// Returns the size of a resized frame in bytes.
    pub fn bytes(&self) -> usize {
        self.height * self.width * 3
    }

    /// Returns whether frames of this size already have the target size and are only copied.
    pub fn keeps(&self, height: usize, width: usize) -> bool {
        (height, width) == (self.height, self.width)
    }

    /// Resizes one RGB frame `[h, w, 3]` into `out`, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`ResizeError`] if a side is 0 or a slice's length does not match its size; `out` is then
    /// unchanged.
    pub fn frame(
        &mut self,
        frame: &[u8],
        height: usize,
        width: usize,
        out: &mut [u8],
    ) -> Result<(), ResizeError> {
        for (expected, found) in [(height * width * 3, frame.len()), (self.bytes(), out.len())] {
            if expected != found {
                return Err(ResizeError::Bytes { expected, found });
            }
        }
        if self.keeps(height, width) {
            out.copy_from_slice(frame);
            return Ok(());
        }
        if height == 0 || width == 0 || self.height == 0 || self.width == 0 {
            return Err(ResizeError::Size { width, height });
        }
        let cover = Cover::new(height, width, self.height, self.width);
        self.scale(frame, height, width, cover.keeping(self.crop, self.height, self.width), out)
    }

    /// Scales only the part of the frame that is kept, because a frame of a single row of pixels
    /// may be thousands of times longer than the target. The filter kernel still reads beyond that
    /// part's edges.
    fn scale(
        &mut self,
        frame: &[u8],
        height: usize,
        width: usize,
        cover: Cover,
        out: &mut [u8],
    ) -> Result<(), ResizeError> {
        let side = |n: usize| u32::try_from(n).map_err(|_| ResizeError::Size { width, height });
        let library = |e: String| ResizeError::Library(e);
        // The typed API compiles the code for one pixel format instead of for all of them.
        let from = TypedImageRef::<U8x3>::from_buffer(side(width)?, side(height)?, frame)
            .map_err(|e| library(e.to_string()))?;
        let mut to = TypedImage::<U8x3>::from_buffer(side(self.width)?, side(self.height)?, out)
            .map_err(|e| library(e.to_string()))?;
        let (top, rows) = kept(height, cover.height, cover.top, self.height);
        let (left, columns) = kept(width, cover.width, cover.left, self.width);
        let bilinear = fir::ResizeAlg::Convolution(fir::FilterType::Bilinear);
        let options = fir::ResizeOptions::new().resize_alg(bilinear).crop(left, top, columns, rows);
        self.engine.resize_typed(&from, &mut to, &options).map_err(|e| library(e.to_string()))
    }
}

/// Maps `to` of the `scaled` pixels of an axis, starting at `start`, back to the source: returns
/// the first pixel's edge and the total length in source pixels.
fn kept(source: usize, scaled: usize, start: usize, to: usize) -> (f64, f64) {
    if to == scaled {
        return (0.0, source as f64);
    }
    let step = source as f64 / scaled as f64;
    let first = start as f64 * step;
    // Rounding must not move the end past the source's edge.
    (first, (to as f64 * step).min(source as f64 - first))
}
