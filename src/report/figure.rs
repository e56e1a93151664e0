//! A chart as a figure of a page; `templates/figure.html` shows it.

use super::charts::{ChartError, Drawing, HEIGHT, WIDTH};
use super::curves::Curves;

/// A chart with its heading and legend.
pub(crate) struct Figure {
    pub id: String,
    pub title: String,
    pub note: String,
    /// Colour and name of each line.
    pub legend: Vec<(usize, String)>,
    pub drawing: Option<Drawing>,
}

impl Figure {
    pub(crate) const WIDTH: u32 = WIDTH;
    pub(crate) const HEIGHT: u32 = HEIGHT;

    pub(crate) fn new(curves: Curves) -> Result<Self, ChartError> {
        let Curves { id, title, note, chart } = curves;
        let drawing = chart.draw()?;
        let legend = chart.lines.into_iter().map(|line| (line.colour, line.name)).collect();
        Ok(Self { id, title, note, legend, drawing })
    }
}
