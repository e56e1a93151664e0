//! Line charts over epochs as SVG, in colours defined by the page's style sheet.

use std::ops::Range;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Text};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoTextStyle, RGBColor, TextStyle};

use super::caption::isolated;
use super::ticks::{Axis, Ticks, epoch_ticks, linear_ticks, log_ticks, percent_ticks};

/// Width of a drawing in its own units. Coordinates are integers, so a unit is about half a pixel on
/// the page.
pub const WIDTH: u32 = 1040;
/// Height of a drawing in its own units.
pub const HEIGHT: u32 = 540;
/// Number of line colours in the style sheet: `--c1` to `--c8`.
pub const COLOURS: usize = 8;

/// Why a chart cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a chart cannot be drawn: {0}")]
pub struct ChartError(pub(super) String);

/// Scale of the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Linear, over the range of the values.
    Linear,
    /// Shares in per cent, from 0.
    Percent,
    /// Logarithmic; values that are not positive are left out.
    Log,
}

impl Scale {
    /// Formats a value for a tooltip; a dash if it is not finite.
    pub fn show(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "–".to_owned(),
            Self::Linear => format!("{value:.4}"),
            Self::Percent => format!("{:.1} %", value * 100.0),
            Self::Log => format!("{value:.2e}"),
        }
    }

    /// Returns the position of a value on the axis; `None` if it cannot be drawn.
    fn position(self, value: f64) -> Option<f64> {
        let position = if self == Self::Log { value.log10() } else { value };
        position.is_finite().then_some(position)
    }

    fn ticks(self, range: &Range<f64>) -> Ticks {
        match self {
            Self::Linear => linear_ticks(range),
            Self::Percent => percent_ticks(range),
            Self::Log => log_ticks(range),
        }
    }
}

/// One line: a value per epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Number of its colour, 1 to [`COLOURS`].
    pub colour: usize,
    /// One value per epoch, from the first. A value that is not finite is a gap in the line.
    pub values: Vec<f64>,
    /// An epoch, counted from 1, whose value is marked with a dot.
    pub dot: Option<usize>,
}

/// A vertical line before an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Label above the plot.
    pub label: String,
}

/// Lines over the epochs of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Scale of the vertical axis.
    pub scale: Scale,
    /// The lines; later ones cover earlier ones.
    pub lines: Vec<Line>,
    /// Vertical lines at the start of phases and similar events, in order.
    pub marks: Vec<Mark>,
}

/// A chart as the content of an `svg` element with the view box `0 0 WIDTH HEIGHT`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drawing {
    /// SVG elements, with colours as `var(--name)`.
    pub body: String,
    /// Stripes over the plot, one per epoch or per few epochs, for tooltips.
    pub stripes: Vec<Stripe>,
    /// Upper edge of the stripes.
    pub top: i32,
    /// Height of the stripes.
    pub height: i32,
}

/// The part of the plot that shows the tooltip of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Stripe {
    /// Left edge.
    pub x: f64,
    /// Width.
    pub width: f64,
    /// The epoch and its values.
    pub tooltip: String,
}

/// A placeholder for a variable of the style sheet while plotters draws; see [`with_variables`].
const fn placeholder(number: u8) -> RGBColor {
    RGBColor(1, 2, number)
}
const GRID: RGBColor = placeholder(100);
const TEXT: RGBColor = placeholder(101);
const BORDER: RGBColor = placeholder(102);

/// Font family and size. Plotters draws text at 0.806 of this size, which is 24 units.
pub(super) const FONT: (&str, f64) = ("sans-serif", 29.8);
/// Height of a row of labels above the plot.
const ROW: i32 = 34;
/// Maximum number of rows of labels above the plot; a label that fits into none of them is omitted.
const ROWS: usize = 3;
/// Upper estimate of the width of a character.
const LETTER: i32 = 14;
/// Width left of the plot, for tick labels.
const LEFT: u32 = 100;
/// Width right of the plot.
const RIGHT: u32 = 20;
/// Maximum number of stripes.
const STRIPES: usize = 130;
/// With more epochs than this, lines are thin.
const MANY: usize = 150;

type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

impl Chart {
    /// Returns the number of epochs.
    fn epochs(&self) -> usize {
        self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0)
    }

    /// Draws the chart; `None` if there is no epoch yet.
    ///
    /// # Errors
    /// [`ChartError`] if plotters fails, which should not happen when drawing to a string.
    pub fn draw(&self) -> Result<Option<Drawing>, ChartError> {
        let epochs = self.epochs();
        if epochs == 0 {
            return Ok(None);
        }
        let mut svg = String::new();
        let mut drawing = Drawing::default();
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
            self.draw_on(&area, epochs, &mut drawing).map_err(ChartError)?;
            area.present().map_err(|e| ChartError(e.to_string()))?;
        }
        drawing.body = with_variables(inside(&svg));
        Ok(Some(drawing))
    }

    fn draw_on(
        &self,
        area: &DrawingArea<SVGBackend, Shift>,
        epochs: usize,
        drawing: &mut Drawing,
    ) -> Result<(), String> {
        let columns = 0.5..epochs as f64 + 0.5;
        let heights = self.range();
        let ticks = self.scale.ticks(&heights);
        let rows = self.label_rows(epochs);
        let label_rows = rows.iter().flatten().max().map_or(0, |row| *row as i32 + 1);

        let mut plot = ChartBuilder::on(area)
            .margin_top(16 + ROW * label_rows)
            .margin_right(RIGHT)
            .x_label_area_size(56)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(
                Axis { range: columns, ticks: epoch_ticks(epochs) },
                Axis { range: heights, ticks },
            )
            .map_err(|e| e.to_string())?;
        plot.configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(GRID.mix(0.0))
            .axis_style(GRID.stroke_width(2))
            .set_all_tick_mark_size(8)
            .label_style(text_style())
            .draw()
            .map_err(|e| e.to_string())?;

        self.draw_marks(area, &plot, &rows)?;
        for line in &self.lines {
            self.draw_line(&mut plot, line)?;
        }
        self.stripes(&plot, epochs, drawing);
        Ok(())
    }

    /// Returns the vertical range that contains all values, with a margin.
    fn range(&self) -> Range<f64> {
        let values = self.lines.iter().flat_map(|line| &line.values);
        let positions = values.filter_map(|value| self.scale.position(*value));
        let (low, high) =
            positions.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p), h.max(p)));
        match self.scale {
            _ if low > high => 0.0..1.0,
            // Shares are compared by their height above 0.
            Scale::Percent => 0.0..(high * 1.08).max(0.01),
            Scale::Log => low - 0.15..high + 0.15,
            Scale::Linear => {
                // A flat line stays in the middle; the margin must not vanish next to large values.
                let margin = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-6);
                low - margin..high + margin
            }
        }
    }

    /// Returns the row of each mark's label, counted from 0 at the top; `None` if it fits into no row.
    fn label_rows(&self, epochs: usize) -> Vec<Option<usize>> {
        let per_epoch = f64::from(WIDTH - LEFT - RIGHT) / epochs as f64;
        let mut ends = [i32::MIN; ROWS];
        let row_of = |mark: &Mark| {
            let width = mark.label.chars().count() as i32 * LETTER + 12;
            let line = ((mark.epoch as f64 - 1.0) * per_epoch) as i32;
            // As in `draw_marks`: right of the line, or left of it near the right edge.
            let start = if anchored_right(line) { line - width } else { line };
            let row = ends.iter().position(|end| *end <= start)?;
            ends[row] = start + width;
            Some(row)
        };
        self.marks.iter().map(row_of).collect()
    }

    fn draw_marks(
        &self,
        area: &DrawingArea<SVGBackend, Shift>,
        plot: &Plot,
        rows: &[Option<usize>],
    ) -> Result<(), String> {
        let (across, down) = plot.plotting_area().get_pixel_range();
        for (mark, row) in self.marks.iter().zip(rows) {
            let x = plot.backend_coord(&(mark.epoch as f64 - 0.5, 0.0)).0;
            let top = row.map_or(down.start, |row| 8 + ROW * row as i32);
            let border = PathElement::new([(x, top), (x, down.end)], BORDER.stroke_width(2));
            area.draw(&border).map_err(|e| e.to_string())?;
            if row.is_none() {
                continue;
            }
            let (hpos, x) = match anchored_right(x - across.start) {
                true => (HPos::Right, x - 8),
                false => (HPos::Left, x + 8),
            };
            let style = text_style().pos(Pos::new(hpos, VPos::Top));
            let label = Text::new(mark.label.as_str(), (x, top - 2), style);
            area.draw(&label).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn draw_line(&self, plot: &mut Plot, line: &Line) -> Result<(), String> {
        let colour = placeholder(line.colour.clamp(1, COLOURS) as u8);
        let points: Vec<Option<(f64, f64)>> = (1..)
            .zip(&line.values)
            .map(|(epoch, value)| Some((f64::from(epoch), self.scale.position(*value)?)))
            .collect();
        let style = colour.stroke_width(if points.len() > MANY { 2 } else { 4 });
        // Gaps are not bridged; a single point is drawn as a dot.
        for part in points.split(Option::is_none) {
            let points: Vec<(f64, f64)> = part.iter().flatten().copied().collect();
            if let [point] = points[..] {
                dot(plot, point, 6, colour)?;
            } else {
                plot.draw_series(LineSeries::new(points, style)).map_err(|e| e.to_string())?;
            }
        }
        let marked = line.dot.and_then(|epoch| epoch.checked_sub(1));
        match marked.and_then(|index| *points.get(index)?) {
            Some(point) => dot(plot, point, 9, colour),
            None => Ok(()),
        }
    }

    /// Adds stripes whose tooltips show the values of their epoch. If there are many epochs, a stripe covers
    /// several and shows the middle one.
    fn stripes(&self, plot: &Plot, epochs: usize, drawing: &mut Drawing) {
        let (across, down) = plot.plotting_area().get_pixel_range();
        (drawing.top, drawing.height) = (down.start, down.end - down.start);
        let every = epochs.div_ceil(STRIPES);
        let width = f64::from(across.end - across.start) / epochs as f64;
        drawing.stripes = (0..epochs)
            .step_by(every)
            .map(|first| {
                let last = (first + every).min(epochs);
                let index = (first + last - 1) / 2;
                let value = |line: &Line| {
                    let value = line.values.get(index).copied().unwrap_or(f64::NAN);
                    format!("{}: {}", isolated(&line.name), self.scale.show(value))
                };
                let values: Vec<String> = self.lines.iter().map(value).collect();
                Stripe {
                    x: f64::from(across.start) + first as f64 * width,
                    width: (last - first) as f64 * width,
                    tooltip: format!("Epoch {}\n{}", index + 1, values.join("\n")),
                }
            })
            .collect();
    }
}

fn dot(plot: &mut Plot, point: (f64, f64), size: i32, colour: RGBColor) -> Result<(), String> {
    let element = Circle::new(point, size, colour.filled());
    plot.draw_series([element]).map_err(|e| e.to_string()).map(|_| ())
}

fn text_style<'a>() -> TextStyle<'a> {
    FONT.with_color(TEXT).into_text_style(&(WIDTH, HEIGHT))
}

/// Whether the label of a mark at `x`, counted from the plot's left edge, is left of its line.
fn anchored_right(x: i32) -> bool {
    x > WIDTH as i32 * 6 / 10
}

/// Returns the content of the document's `svg` element.
fn inside(svg: &str) -> &str {
    let start = svg.find("<svg").and_then(|tag| Some(tag + svg[tag..].find('>')? + 1));
    let end = svg.rfind("</svg>");
    let content = start.zip(end).and_then(|(start, end)| svg.get(start..end));
    content.expect("plotters writes one svg element").trim()
}

/// Replaces the placeholders by variables, so that one drawing works on light and dark pages.
fn with_variables(svg: &str) -> String {
    let mut svg = svg.to_owned();
    let lines = (1..=COLOURS as u8).map(|n| (placeholder(n), format!("var(--c{n})")));
    let others = [(GRID, "--grid"), (TEXT, "--muted"), (BORDER, "--border")];
    for (RGBColor(r, g, b), name) in
        lines.chain(others.map(|(colour, name)| (colour, format!("var({name})"))))
    {
        svg = svg.replace(&format!("\"#{r:02X}{g:02X}{b:02X}\""), &format!("\"{name}\""));
    }
    svg
}
