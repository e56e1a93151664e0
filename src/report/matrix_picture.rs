//! A confusion matrix as a picture.

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_7X13;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};
use image::{Rgb, RgbImage};

/// Side of a cell, pixels.
const CELL: u32 = 44;
/// Around everything, and between the parts.
const GAP: u32 = 12;
/// Size of a letter.
const LETTER: [u32; 2] = [7, 13];
const PAPER: [u8; 3] = [252, 252, 251];
const INK: Rgb888 = Rgb888::new(27, 31, 36);
const RIGHT: [u8; 3] = [29, 95, 191];
const WRONG: [u8; 3] = [194, 82, 27];

/// Draws a matrix of counts, a row per label and a column per prediction; the classes' numbers head
/// the columns. Shades are shares of a row: blue on the diagonal, orange off it. Only ASCII can be
/// drawn; other letters become question marks.
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
    canvas.write(&title, GAP, GAP + LETTER[1] / 2, Alignment::Left, INK);
    for column in 0..columns {
        let x = left + column * CELL + CELL / 2;
        let number = (column + 1).to_string();
        canvas.write(&number, x, top - GAP, Alignment::Center, INK);
    }
    for (row, counts) in rows.iter().enumerate() {
        let y = top + row as u32 * CELL;
        let name = names.get(row).map_or("", String::as_str);
        canvas.write(name, left - GAP, y + CELL / 2, Alignment::Right, INK);
        let total: u64 = counts.iter().sum();
        for (column, count) in counts.iter().enumerate() {
            let share = if total == 0 { 0.0 } else { *count as f64 / total as f64 };
            let x = left + column as u32 * CELL;
            canvas.cell([x, y], if row == column { RIGHT } else { WRONG }, share);
            let ink = if share >= 0.75 { Rgb888::WHITE } else { INK };
            let middle = [x + CELL / 2, y + CELL / 2];
            canvas.write(&count.to_string(), middle[0], middle[1], Alignment::Center, ink);
        }
    }
    canvas.0
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

struct Canvas(RgbImage);

impl Canvas {
    /// Writes a line, its middle at the height `y`.
    fn write(&mut self, text: &str, x: u32, y: u32, alignment: Alignment, ink: Rgb888) {
        let style = TextStyleBuilder::new().alignment(alignment).baseline(Baseline::Middle).build();
        let place = Point::new(x as i32, y as i32);
        let text = Text::with_text_style(text, place, MonoTextStyle::new(&FONT_7X13, ink), style);
        // Drawing on this canvas cannot fail: its error type has no value.
        let Ok(_) = text.draw(self);
    }

    /// A filled square with a thin border of paper.
    fn cell(&mut self, [x, y]: [u32; 2], tone: [u8; 3], share: f64) {
        // A faint shade tells an empty cell from the paper.
        let share = 0.04 + 0.96 * share;
        let mix = |k: usize| {
            let (paper, tone) = (f64::from(PAPER[k]), f64::from(tone[k]));
            (paper + (tone - paper) * share).round() as u8
        };
        let style = PrimitiveStyle::with_fill(Rgb888::new(mix(0), mix(1), mix(2)));
        let corner = Point::new(x as i32 + 1, y as i32 + 1);
        let Ok(()) =
            Rectangle::new(corner, Size::new_equal(CELL - 2)).into_styled(style).draw(self);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(place, colour) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(place.x), u32::try_from(place.y)) else {
                continue;
            };
            if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}
