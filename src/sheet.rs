//! Contact sheets: an image of rows of frames with captions.

use burn::tensor::{Tensor, TensorReadError};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_7X13;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};

use crate::augment::Normalisation;
use crate::canvas::Canvas;

/// A row of frames of one size with a caption.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Caption, lines of plain ASCII.
    pub caption: String,
    /// The frames, left to right.
    pub frames: Vec<RgbImage>,
}

/// Pixels between frames and around the sheet.
const GAP: u32 = 6;
/// Size of a character, pixels.
const LETTER: [u32; 2] = [7, 13];
const BACKGROUND: Rgb<u8> = Rgb([24, 26, 32]);
const INK: Rgb888 = Rgb888::new(222, 224, 230);

/// Draws a sheet: a title, then the rows, their captions on the left.
pub(crate) fn contact_sheet(title: &str, rows: &[Row]) -> RgbImage {
    let frames = || rows.iter().flat_map(|row| &row.frames);
    let frame_width = frames().map(RgbImage::width).max().unwrap_or(0);
    let columns = rows.iter().map(|row| row.frames.len()).max().unwrap_or(0) as u32;
    let caption_width = rows.iter().map(|row| text_size(&row.caption)[0]).max().unwrap_or(0);
    let height_of = |row: &Row| {
        let frames = row.frames.iter().map(RgbImage::height).max().unwrap_or(0);
        frames.max(text_size(&row.caption)[1])
    };
    let left = GAP + caption_width + GAP;
    let width = (left + columns * (frame_width + GAP)).max(2 * GAP + text_size(title)[0]);
    let top = GAP + text_size(title)[1] + GAP;
    let height = top + rows.iter().map(|row| height_of(row) + GAP).sum::<u32>();

    let mut canvas = Canvas(RgbImage::from_pixel(width, height, BACKGROUND));
    write(&mut canvas, title, GAP, GAP);
    let mut y = top;
    for row in rows {
        write(&mut canvas, &row.caption, GAP, y);
        for (column, frame) in row.frames.iter().enumerate() {
            let x = left + column as u32 * (frame_width + GAP);
            image::imageops::replace(&mut canvas.0, frame, i64::from(x), i64::from(y));
        }
        y += height_of(row) + GAP;
    }
    canvas.0
}

/// Converts normalised clips `[N, 3, T, H, W]` back to N·T images.
///
/// # Errors
/// [`TensorReadError`] if the device fails.
pub(crate) fn pictures(
    clips: Tensor<5>,
    normalisation: &Normalisation,
) -> Result<Vec<RgbImage>, TensorReadError> {
    let [n, _, t, h, w] = clips.dims();
    let values = clips.try_into_vec_as::<f32>()?;
    let Normalisation { mean, std, .. } = normalisation;
    let picture = |number: usize| {
        let (clip, frame) = (number / t, number % t);
        RgbImage::from_fn(w as u32, h as u32, |x, y| {
            let at = |c: usize| (((clip * 3 + c) * t + frame) * h + y as usize) * w + x as usize;
            let level = |c: usize| values[at(c)] * std[c] + mean[c];
            Rgb([0, 1, 2].map(|c| (level(c) * 255.0).round().clamp(0.0, 255.0) as u8))
        })
    };
    Ok((0..n * t).map(picture).collect())
}

/// `[width, height]` of a text, pixels.
fn text_size(text: &str) -> [u32; 2] {
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0) as u32;
    [longest * LETTER[0], text.lines().count() as u32 * LETTER[1]]
}

fn write(canvas: &mut Canvas, text: &str, x: u32, y: u32) {
    let style = MonoTextStyle::new(&FONT_7X13, INK);
    let position = Point::new(x as i32, y as i32);
    // The error type has no values: drawing cannot fail.
    let Ok(_) = Text::with_baseline(text, position, style, Baseline::Top).draw(canvas);
}
