//! From YUV to RGB, with the matrix and the range that a stream states.

use h264_reader::nal::sps::SeqParameterSet;
use rusty_h264_common::YuvFrame;
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv420_to_rgb};

/// How samples become colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colour {
    matrix: YuvStandardMatrix,
    range: YuvRange,
}

/// What a container says about a track's colours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ColourTags {
    /// `matrix_coefficients` of ITU-T H.273, table 4.
    pub matrix: Option<u16>,
    /// Whether samples use all values from 0 to 255.
    pub full_range: Option<bool>,
}

impl Colour {
    /// The colours of a stream. Its own tags win over the container's; without any, BT.601 with limited
    /// range, as ffmpeg takes it.
    pub(super) fn new(sps: &SeqParameterSet, container: ColourTags) -> Self {
        let signal = sps.vui_parameters.as_ref().and_then(|vui| vui.video_signal_type.as_ref());
        let stated = signal.and_then(|signal| signal.colour_description.as_ref());
        let matrix = stated.map(|stated| u16::from(stated.matrix_coefficients));
        let full_range = signal.map(|signal| signal.video_full_range_flag);
        Self {
            matrix: match matrix.or(container.matrix) {
                Some(1) => YuvStandardMatrix::Bt709,
                Some(4) => YuvStandardMatrix::Fcc,
                // SMPTE 240M; the library's own entry (0.8.20) is some 12 levels off.
                Some(7) => YuvStandardMatrix::Custom(0.212, 0.087),
                Some(9 | 10) => YuvStandardMatrix::Bt2020,
                _ => YuvStandardMatrix::Bt601,
            },
            range: match full_range.or(container.full_range) {
                Some(true) => YuvRange::Full,
                _ => YuvRange::Limited,
            },
        }
    }

    /// Converts a picture to `[H, W, 3]` RGB. Each pixel takes the nearest chroma sample, as ffmpeg
    /// does.
    pub(super) fn to_rgb(self, picture: &YuvFrame, rgb: &mut [u8]) -> Result<(), String> {
        let (width, height) = (picture.width as u32, picture.height as u32);
        let planes = YuvPlanarImage {
            y_plane: &picture.y,
            y_stride: width,
            u_plane: &picture.u,
            u_stride: width.div_ceil(2),
            v_plane: &picture.v,
            v_stride: width.div_ceil(2),
            width,
            height,
        };
        yuv420_to_rgb(&planes, rgb, width * 3, self.range, self.matrix)
            .map_err(|error| error.to_string())
    }
}
