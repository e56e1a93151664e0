//! The picture of a learning rate range test, as an SVG file.

use std::ops::Range;

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Text};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoTextStyle, RGBColor, TextStyle, WHITE};

use super::charts::{ChartError, FONT, HEIGHT, WIDTH};
use super::ticks::{Axis, linear_ticks, log_ticks};

// The report's colours on a white page, as they are: a picture by itself has no style sheet.
const SMOOTHED: RGBColor = RGBColor(0x1d, 0x5f, 0xbf);
const LOSS: RGBColor = RGBColor(0xc4, 0xc9, 0xcf);
const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xea);
const TEXT: RGBColor = RGBColor(0x5b, 0x65, 0x70);
const MARK: RGBColor = RGBColor(0xc2, 0x52, 0x1b);

/// Losses over the learning rate, on a logarithmic axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LrChart {
    /// Learning rate of each step, rising.
    pub rates: Vec<f64>,
    /// Loss of each step.
    pub losses: Vec<f64>,
    /// The same smoothed.
    pub smoothed: Vec<f64>,
    /// The suggested rate, which is marked.
    pub suggestion: Option<f64>,
}

impl LrChart {
    /// Draws it as a document of its own.
    ///
    /// # Errors
    /// [`ChartError`] if plotters fails, which should not happen when drawing to a string.
    pub fn draw(&self) -> Result<String, ChartError> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
            self.draw_on(&area).map_err(ChartError)?;
            area.present().map_err(|error| ChartError(error.to_string()))?;
        }
        Ok(svg)
    }

    fn draw_on(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        area.fill(&WHITE).map_err(|e| text(&e))?;
        let (columns, heights) = (self.columns(), self.heights());
        let mut plot = ChartBuilder::on(area)
            .margin_top(50)
            .margin_right(40)
            .x_label_area_size(92)
            .y_label_area_size(100)
            .build_cartesian_2d(
                Axis { ticks: log_ticks(&columns), range: columns },
                Axis { ticks: linear_ticks(&heights), range: heights.clone() },
            )
            .map_err(|e| text(&e))?;
        plot.configure_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(GRID.mix(0.0))
            .axis_style(GRID.stroke_width(2))
            .set_all_tick_mark_size(8)
            .label_style(style(TEXT))
            .x_desc("learning rate")
            .axis_desc_style(style(TEXT))
            .draw()
            .map_err(|e| text(&e))?;

        let line = |values: &[f64]| -> Vec<(f64, f64)> {
            let points = self.rates.iter().zip(values).filter(|(_, value)| value.is_finite());
            points.map(|(rate, &value)| (rate.log10(), inside(value, &heights))).collect()
        };
        let smoothed = line(&self.smoothed);
        for (points, style) in [
            (line(&self.losses), LOSS.stroke_width(2)),
            (smoothed.clone(), SMOOTHED.stroke_width(4)),
        ] {
            plot.draw_series(LineSeries::new(points, style)).map_err(|e| text(&e))?;
        }
        self.legend(area, 108)?;

        let Some(rate) = self.suggestion else {
            return Ok(());
        };
        let (at, (across, down)) = (rate.log10(), plot.plotting_area().get_pixel_range());
        let x = plot.backend_coord(&(at, heights.start)).0;
        let border = PathElement::new([(x, down.start), (x, down.end)], MARK.stroke_width(2));
        area.draw(&border).map_err(|e| text(&e))?;
        if let Some(point) = smoothed.iter().find(|point| point.0 == at) {
            let dot = Circle::new(*point, 8, MARK.filled());
            plot.draw_series([dot]).map_err(|e| text(&e))?;
        }
        let on_the_left = x < (across.start + across.end) / 2;
        let (hpos, gap) = if on_the_left { (HPos::Left, 8) } else { (HPos::Right, -8) };
        let label = format!("suggestion {rate:.1e}");
        let style = style(MARK).pos(Pos::new(hpos, VPos::Bottom));
        let label = Text::new(label, (x + gap, down.end - 8), style);
        area.draw(&label).map_err(|e| text(&e))
    }

    /// Names of the lines, above the plot.
    fn legend(&self, area: &DrawingArea<SVGBackend, Shift>, left: i32) -> Result<(), String> {
        let names = [("smoothed loss", SMOOTHED, 0), ("loss of each batch", LOSS, 250)];
        for (name, colour, offset) in names {
            let x = left + offset;
            let line = PathElement::new([(x, 24), (x + 36, 24)], colour.stroke_width(4));
            area.draw(&line).map_err(|e| e.to_string())?;
            let style = style(TEXT).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(name, (x + 46, 24), style)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The logarithms of the rates.
    fn columns(&self) -> Range<f64> {
        match (self.rates.first(), self.rates.last()) {
            (Some(first), Some(last)) if last > first => first.log10()..last.log10(),
            (Some(first), _) => first.log10() - 0.5..first.log10() + 0.5,
            _ => -7.0..0.0,
        }
    }

    /// Those of all smoothed losses, and of the batches' up to the lowest: what comes after it may be
    /// larger by many powers of ten.
    fn heights(&self) -> Range<f64> {
        let finite = |values: &[f64]| -> Vec<f64> {
            values.iter().copied().filter(|value| value.is_finite()).collect()
        };
        let lowest =
            (0..self.smoothed.len()).min_by(|a, b| self.smoothed[*a].total_cmp(&self.smoothed[*b]));
        let until = lowest.map_or(0, |index| index + 1).min(self.losses.len());
        let mut values = finite(&self.smoothed);
        values.extend(finite(&self.losses[..until]));
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        if low > high {
            return 0.0..1.0;
        }
        let margin = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-6);
        low - margin..high + margin
    }
}

/// The value, or the end of the range that it is beyond.
fn inside(value: f64, range: &Range<f64>) -> f64 {
    value.clamp(range.start, range.end)
}

fn style<'a>(colour: RGBColor) -> TextStyle<'a> {
    FONT.with_color(colour).into_text_style(&(WIDTH, HEIGHT))
}
