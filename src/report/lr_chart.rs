//! The chart of a learning-rate range test, as an SVG file.

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

// The report's colours on a white page, as literal values: a stand-alone picture has no style sheet.
const SMOOTHED: RGBColor = RGBColor(0x1d, 0x5f, 0xbf);
const LOSS: RGBColor = RGBColor(0xc4, 0xc9, 0xcf);
const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xea);
const TEXT: RGBColor = RGBColor(0x5b, 0x65, 0x70);
const MARK: RGBColor = RGBColor(0xc2, 0x52, 0x1b);

/// Left edge of the plot.
const LEFT: i32 = 100;

/// Losses over the learning rate, on a logarithmic axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LrChart {
    /// Learning rate of each step, increasing.
    pub rates: Vec<f64>,
    /// Loss of each step.
    pub losses: Vec<f64>,
    /// Smoothed loss of each step.
    pub smoothed: Vec<f64>,
    /// Suggested rate, which is marked.
    pub suggestion: Option<f64>,
}

impl LrChart {
    /// Draws the chart as a stand-alone document.
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
            .y_label_area_size(LEFT)
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
            points.map(|(rate, &value)| (rate.log10(), value)).collect()
        };
        let smoothed = line(&self.smoothed);
        for (points, style) in [
            (line(&self.losses), LOSS.stroke_width(2)),
            (smoothed.clone(), SMOOTHED.stroke_width(4)),
        ] {
            for part in below(&points, heights.end) {
                plot.draw_series(LineSeries::new(part, style)).map_err(|e| text(&e))?;
            }
        }
        self.legend(area)?;

        let Some(at) = self.suggestion.map(f64::log10) else {
            return Ok(());
        };
        let down = plot.plotting_area().get_pixel_range().1;
        let x = plot.backend_coord(&(at, heights.start)).0;
        let border = PathElement::new([(x, down.start), (x, down.end)], MARK.stroke_width(2));
        area.draw(&border).map_err(|e| text(&e))?;
        if let Some(point) = smoothed.iter().find(|point| point.0 == at && point.1 < heights.end) {
            let dot = Circle::new(*point, 8, MARK.filled());
            plot.draw_series([dot]).map_err(|e| text(&e))?;
        }
        Ok(())
    }

    /// Draws the legend above the plot.
    fn legend(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<(), String> {
        let suggestion = self.suggestion.map(|rate| format!("suggestion {rate:.1e}"));
        let names = [
            (Some("smoothed loss".to_owned()), SMOOTHED, LEFT),
            (Some("loss of each batch".to_owned()), LOSS, LEFT + 260),
            (suggestion, MARK, LEFT + 570),
        ];
        for (name, colour, x) in names {
            let Some(name) = name else { continue };
            let line = PathElement::new([(x, 24), (x + 36, 24)], colour.stroke_width(4));
            area.draw(&line).map_err(|e| e.to_string())?;
            let style = style(TEXT).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(name, (x + 46, 24), style)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Returns the range of the logarithms of the rates, with room for the ticks at both ends.
    fn columns(&self) -> Range<f64> {
        match (self.rates.first(), self.rates.last()) {
            (Some(first), Some(last)) if last > first => first.log10() - 0.02..last.log10() + 0.02,
            (Some(first), _) => first.log10() - 0.5..first.log10() + 0.5,
            _ => -7.0..0.0,
        }
    }

    /// Returns the vertical range: from the lowest loss to the highest one before the minimum of the
    /// smoothed loss, and as much again above. Later losses may be larger by many powers of ten.
    fn heights(&self) -> Range<f64> {
        let lowest =
            (0..self.smoothed.len()).min_by(|a, b| self.smoothed[*a].total_cmp(&self.smoothed[*b]));
        let until = lowest.map_or(0, |index| index + 1).min(self.losses.len());
        let finite = |values: &[f64]| -> Vec<f64> {
            values.iter().copied().filter(|value| value.is_finite()).collect()
        };
        let all = [finite(&self.losses), finite(&self.smoothed)].concat();
        let before = [finite(&self.losses[..until]), finite(&self.smoothed[..until])].concat();
        let low = all.iter().copied().fold(f64::INFINITY, f64::min);
        let high = before.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let highest = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return 0.0..1.0;
        }
        let margin = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-6);
        low - margin..highest.min(high + (high - low)) + margin
    }
}

/// Returns the parts of a line that are not above `top`, clipped there.
fn below(points: &[(f64, f64)], top: f64) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for &point in points {
        let is_below = point.1 <= top;
        let was_below = before.is_some_and(|before| before.1 <= top);
        let crossing = before.filter(|_| is_below != was_below).map(|before| {
            let share = (top - before.1) / (point.1 - before.1);
            (before.0 + share * (point.0 - before.0), top)
        });
        if is_below && !was_below {
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| is_below || was_below) {
            part.extend(crossing);
            part.extend(is_below.then_some(point));
        }
        before = Some(point);
    }
    parts
}

fn style<'a>(colour: RGBColor) -> TextStyle<'a> {
    FONT.with_color(colour).into_text_style(&(WIDTH, HEIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_clipped_where_it_leaves_the_plot() {
        let points = [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, 1.0), (4.0, 0.0)];
        let parts = below(&points, 2.0);
        assert_eq!(
            parts,
            [vec![(0.0, 1.0), (0.5, 2.0)], vec![(2.75, 2.0), (3.0, 1.0), (4.0, 0.0)]]
        );
        assert!(below(&points[1..3], 2.0).is_empty());
        assert_eq!(below(&points, 9.0), [points.to_vec()]);
    }
}
