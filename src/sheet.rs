//! Contact sheets: images of rows of frames with captions.

mod data_set;
mod explanation;

use burn::tensor::{Tensor, TensorReadError};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_7X13;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};

use crate::augment::Normalisation;
use crate::canvas::Canvas;
pub(crate) use data_set::data_set_sheet;
pub(crate) use explanation::explained;

/// A row of frames with a caption.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Caption, one or more lines of Latin-1; other characters become `?`.
    pub caption: String,
    /// The frames, left to right.
    pub frames: Vec<RgbImage>,
}

/// Rows below a heading.
struct Section<'a> {
    /// The heading, if there is one.
    heading: Option<&'a str>,
    /// The rows, from top to bottom.
    rows: &'a [Row],
}

/// Pixels between frames and around the sheet.
const GAP: u32 = 6;
/// Size of a character, pixels.
const LETTER: [u32; 2] = [7, 13];
const BACKGROUND: Rgb<u8> = Rgb([24, 26, 32]);
/// Colour of the bar behind a heading.
const BAR: Rgb<u8> = Rgb([52, 58, 74]);
const INK: Rgb888 = Rgb888::new(222, 224, 230);

/// Draws a sheet: a title, then the rows, with their captions on the left.
pub(crate) fn contact_sheet(title: &str, rows: &[Row]) -> RgbImage {
    draw(title, &[Section { heading: None, rows }])
}

/// Like [`contact_sheet`], with several sections that may have headings.
fn draw(title: &str, sections: &[Section<'_>]) -> RgbImage {
    let rows = || sections.iter().flat_map(|section| section.rows);
    let frames = || rows().flat_map(|row| &row.frames);
    let frame_width = frames().map(RgbImage::width).max().unwrap_or(0);
    let columns = rows().map(|row| row.frames.len()).max().unwrap_or(0) as u32;
    let caption_width = rows().map(|row| text_size(&row.caption)[0]).max().unwrap_or(0);
    let height_of = |row: &Row| {
        let frames = row.frames.iter().map(RgbImage::height).max().unwrap_or(0);
        frames.max(text_size(&row.caption)[1])
    };
    let headings = || sections.iter().filter_map(|section| section.heading);
    let bar = LETTER[1] + GAP;
    let left = GAP + caption_width + 2 * GAP;
    let texts = headings().chain([title]).map(|text| text_size(text)[0]).max().unwrap_or(0);
    let width = (left + columns * (frame_width + GAP)).max(2 * GAP + texts);
    let top = GAP + text_size(title)[1] + GAP;
    let height = top
        + headings().count() as u32 * (bar + GAP)
        + rows().map(|row| height_of(row) + GAP).sum::<u32>();

    let mut canvas = Canvas(RgbImage::from_pixel(width, height, BACKGROUND));
    write(&mut canvas, title, GAP, GAP);
    let mut y = top;
    for section in sections {
        if let Some(heading) = section.heading {
            let behind = RgbImage::from_pixel(width, bar, BAR);
            image::imageops::replace(&mut canvas.0, &behind, 0, i64::from(y));
            write(&mut canvas, heading, GAP, y + GAP / 2);
            y += bar + GAP;
        }
        for row in section.rows {
            write(&mut canvas, &row.caption, GAP, y);
            for (column, frame) in row.frames.iter().enumerate() {
                // Centred in its column.
                let indent = (frame_width - frame.width()) / 2;
                let x = left + column as u32 * (frame_width + GAP) + indent;
                image::imageops::replace(&mut canvas.0, frame, i64::from(x), i64::from(y));
            }
            y += height_of(row) + GAP;
        }
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

/// Returns `[width, height]` of a text, pixels.
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
