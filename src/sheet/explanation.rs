//! Frames with their saliency painted over them.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::Row;
use crate::data::Batch;
use crate::evaluate::Saliency;

/// Maximum number of frames per row, evenly spread over the clip.
const COLUMNS: usize = 8;
/// Narrowest and widest frame, pixels.
const WIDTHS: [u32; 2] = [120, 200];
/// Opacity where the saliency is 1.
const OPACITY: f32 = 0.7;

/// Makes a row of a clip's frames, warmer where the saliency is larger.
pub(crate) fn explained(batch: &Batch, clip: usize, saliency: &Saliency, caption: String) -> Row {
    let [length, height, width] = batch.size;
    let (w, h) = (width as u32, height as u32);
    let bytes = batch.frames_of(clip..clip + 1);
    let shown = w.clamp(WIDTHS[0], WIDTHS[1]);
    let size = [shown, (h * shown / w).max(1)];
    let count = COLUMNS.min(length);
    let frame = |column: usize| {
        let t = (2 * column + 1) * length / (2 * count);
        let frame = bytes[t * height * width * 3..][..height * width * 3].to_vec();
        let frame = RgbImage::from_raw(w, h, frame).expect("the buffer has the size of the frame");
        let mut frame = imageops::resize(&frame, size[0], size[1], FilterType::Triangle);
        let moment = (t as f64 + 0.5) / length as f64;
        for (x, y, pixel) in frame.enumerate_pixels_mut() {
            let position = [
                moment,
                (f64::from(y) + 0.5) / f64::from(size[1]),
                (f64::from(x) + 0.5) / f64::from(size[0]),
            ];
            *pixel = warmed(*pixel, saliency.at(position));
        }
        frame
    };
    Row { caption, frames: (0..count).map(frame).collect() }
}

/// Mixes a pixel with a glow that goes from red to yellow as `heat` rises.
fn warmed(Rgb(pixel): Rgb<u8>, heat: f32) -> Rgb<u8> {
    let glow = [255.0, 230.0 * heat * heat, 40.0 * heat];
    let opacity = OPACITY * heat;
    let mut mixed = pixel;
    for (value, glow) in mixed.iter_mut().zip(glow) {
        *value = (f32::from(*value) * (1.0 - opacity) + glow * opacity).round() as u8;
    }
    Rgb(mixed)
}
