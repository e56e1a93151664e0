//! Confusion matrices as images.

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_7X13;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};
use image::{Rgb, RgbImage};

use crate::canvas::Canvas;

/// Side of a cell, pixels.
const CELL: u32 = 44;
/// Margin and space between the parts, pixels.
const GAP: u32 = 12;
/// Size of a character, pixels.
const LETTER: [u32; 2] = [7, 13];
const PAPER: [u8; 3] = [252, 252, 251];
const INK: Rgb888 = Rgb888::new(27, 31, 36);
const CORRECT: [u8; 3] = [29, 95, 191];
const WRONG: [u8; 3] = [194, 82, 27];

/// Draws a matrix of counts with a row per label and a column per prediction; the columns are headed
/// by class numbers. Shades are shares of a row: blue on the diagonal, orange off it. Only ASCII can
/// be drawn; other characters become question marks.
pub fn matrix_picture(title: &str, classes: &[String], rows: &[Vec<u64>]) -> RgbImage {
    let names: Vec<String> =
        (1..).zip(classes).map(|(number, class)| ascii(&format!("{number} {class}"))).collect();
    let title = ascii(&format!("{title}: rows are labels, columns predictions"));
    let width_of = |text: &str| text.len() as u32 * LETTER[0];
    let left = 2 * GAP + names.iter().map(|name| width_of(name)).max().unwrap_or(0);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let width = (left + columns * CELL + GAP).max(width_of(&title) + 2 * GAP);
    let top = 3 * GAP + 2 * LETTER[1];
    let height = top + rows.len() as u32 * CELL + GAP;

    let mut canvas = Canvas(RgbImage::from_pixel(width, height, Rgb(PAPER)));
    let (left_aligned, centred) = (Alignment::Left, Alignment::Center);
    write(&mut canvas, &title, [GAP, GAP + LETTER[1] / 2], left_aligned, INK);
    for column in 0..columns {
        let x = left + column * CELL + CELL / 2;
        let number = (column + 1).to_string();
        write(&mut canvas, &number, [x, top - GAP], centred, INK);
    }
    for (row, counts) in rows.iter().enumerate() {
        let y = top + row as u32 * CELL;
        let name = names.get(row).map_or("", String::as_str);
        write(&mut canvas, name, [left - GAP, y + CELL / 2], Alignment::Right, INK);
        let total: u64 = counts.iter().sum();
        for (column, count) in counts.iter().enumerate() {
            let share = if total == 0 { 0.0 } else { *count as f64 / total as f64 };
            let x = left + column as u32 * CELL;
            let shade = shade(if row == column { CORRECT } else { WRONG }, share);
            fill_cell(&mut canvas, [x, y], shade);
            let ink = if shade_is_dark(shade) { Rgb888::WHITE } else { Rgb888::BLACK };
            let middle = [x + CELL / 2, y + CELL / 2];
            write(&mut canvas, &count.to_string(), middle, centred, ink);
        }
    }
    canvas.0
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

/// Writes a line that is vertically centred on `y`.
fn write(canvas: &mut Canvas, text: &str, [x, y]: [u32; 2], alignment: Alignment, ink: Rgb888) {
    let style = TextStyleBuilder::new().alignment(alignment).baseline(Baseline::Middle).build();
    let position = Point::new(x as i32, y as i32);
    let text = Text::with_text_style(text, position, MonoTextStyle::new(&FONT_7X13, ink), style);
    // The error type has no values: drawing cannot fail.
    let Ok(_) = text.draw(canvas);
}

/// Returns the colour of a cell with this share of its row.
fn shade(tone: [u8; 3], share: f64) -> [u8; 3] {
    // A faint shade distinguishes an empty cell from the background.
    let share = 0.04 + 0.96 * share;
    [0, 1, 2].map(|k| {
        let (paper, tone) = (f64::from(PAPER[k]), f64::from(tone[k]));
        (paper + (tone - paper) * share).round() as u8
    })
}

/// Whether white has a higher contrast with the shade than black. The better of the two always reaches the
/// 4.5 that WCAG requires.
fn shade_is_dark(shade: [u8; 3]) -> bool {
    1.05 / (luminance(shade) + 0.05) > (luminance(shade) + 0.05) / 0.05
}

/// Computes the relative luminance as defined by WCAG.
fn luminance(colour: [u8; 3]) -> f64 {
    let linear = |part: u8| {
        let part = f64::from(part) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    let [red, green, blue] = colour.map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// Fills a cell, except for a thin border.
fn fill_cell(canvas: &mut Canvas, [x, y]: [u32; 2], [red, green, blue]: [u8; 3]) {
    let style = PrimitiveStyle::with_fill(Rgb888::new(red, green, blue));
    let corner = Point::new(x as i32 + 1, y as i32 + 1);
    let Ok(()) = Rectangle::new(corner, Size::new_equal(CELL - 2)).into_styled(style).draw(canvas);
}
