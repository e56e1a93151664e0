//! Conversion from YUV to RGB with the matrix and range that a stream states.

use h264_reader::nal::sps::SeqParameterSet;
use polyview_cpu::colour::{Yuv420, YuvToRgb};
use rusty_h264_common::YuvFrame;

/// The conversion of a stream's samples to RGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colour(YuvToRgb);

/// A container's statements about a track's colours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ColourTags {
    /// `matrix_coefficients` of ITU-T H.273, table 4.
    pub matrix: Option<u16>,
    /// Whether samples use the full range from 0 to 255.
    pub full_range: Option<bool>,
}

impl Colour {
    /// Creates the conversion for a stream. The stream's own tags take precedence over the
    /// container's; without any tags, BT.601 with limited range is assumed, as by ffmpeg.
    pub(super) fn new(sps: &SeqParameterSet, container: ColourTags) -> Self {
        let signal = sps.vui_parameters.as_ref().and_then(|vui| vui.video_signal_type.as_ref());
        let stated = signal.and_then(|signal| signal.colour_description.as_ref());
        let matrix = stated.map(|stated| u16::from(stated.matrix_coefficients));
        let full_range = signal.map(|signal| signal.video_full_range_flag);
        // The matrices of ITU-T H.273, table 4: weights of red and blue in luma.
        let (kr, kb) = match matrix.or(container.matrix) {
            Some(1) => (0.2126, 0.0722),
            Some(4) => (0.30, 0.11),
            Some(7) => (0.212, 0.087),
            Some(9 | 10) => (0.2627, 0.0593),
            _ => (0.299, 0.114),
        };
        let full_range = full_range.or(container.full_range) == Some(true);
        Self(YuvToRgb::new(kr, kb, full_range))
    }

    /// Converts a picture to `[H, W, 3]` RGB, like ffmpeg. The picture's planes must match its
    /// size.
    pub(super) fn to_rgb(self, picture: &YuvFrame, rgb: &mut [u8]) {
        let YuvFrame { width, height, y, u, v } = picture;
        self.0.convert(&Yuv420 { y, u, v, width: *width, height: *height }, rgb);
    }
}
