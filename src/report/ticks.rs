//! Positions and labels of ticks on the axes of charts.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// A linear axis with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) range: Range<f64>,
    pub(super) ticks: Ticks,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        start.saturating_add((f64::from(end - start) * share).round() as i32)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.positions.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, position: &f64) -> String {
        self.ticks.label(*position)
    }
}

/// Positions on an axis and their labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ticks {
    /// Positions on the axis, ascending.
    pub positions: Vec<f64>,
    labels: Vec<String>,
}

impl Ticks {
    /// Returns the label at a position; empty if there is no tick.
    pub fn label(&self, position: f64) -> String {
        let index = self.positions.iter().position(|tick| *tick == position);
        index.map_or_else(String::new, |index| self.labels[index].clone())
    }

    /// Returns the labels, in the order of the positions.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
}

/// Approximate number of ticks per axis.
const WANTED: f64 = 6.0;

/// Returns the smallest of 1, 2 and 5 times a power of ten that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// Returns the multiples of a round step inside the range, and the step.
fn multiples(range: &Range<f64>) -> (Vec<f64>, f64) {
    let step = round_step((range.end - range.start) / WANTED);
    if !step.is_finite() || step <= 0.0 {
        return (Vec::new(), 1.0);
    }
    let (first, last) = ((range.start / step).ceil(), (range.end / step).floor());
    // Integer multiples, so that rounding errors do not accumulate; the step is chosen so that there are few.
    let count = (last - first).clamp(0.0, 4.0 * WANTED) as usize;
    ((0..=count).map(|k| (first + k as f64) * step).collect(), step)
}

/// Returns the number of decimals that distinguish multiples of a step.
fn digits(step: f64) -> usize {
    (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize
}

/// Returns the ticks of a linear axis.
pub fn linear_ticks(range: &Range<f64>) -> Ticks {
    let (positions, step) = multiples(range);
    let large = range.start.abs().max(range.end.abs()) >= 1e5;
    let label = |value: &f64| match large {
        true => format!("{value:.1e}"),
        // `+ 0.0` turns −0 into 0.
        false => format!("{:.*}", digits(step), value + 0.0),
    };
    Ticks { labels: positions.iter().map(label).collect(), positions }
}

/// Returns the ticks of an axis of shares, labelled in per cent.
pub fn percent_ticks(range: &Range<f64>) -> Ticks {
    let (positions, step) = multiples(range);
    let label = |share: &f64| format!("{:.*} %", digits(step * 100.0), share * 100.0 + 0.0);
    Ticks { labels: positions.iter().map(label).collect(), positions }
}

/// Returns the ticks of an axis of base-10 logarithms: powers of ten, with multiples between them if there
/// are few.
pub fn log_ticks(range: &Range<f64>) -> Ticks {
    let decades = range.end - range.start;
    let factors: &[u32] = match decades {
        d if d <= 0.6 => &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        d if d <= 2.5 => &[1, 2, 5],
        _ => &[1],
    };
    let (first, last) = (range.start.floor() as i32, range.end.ceil() as i32);
    let every = (((last - first) as f64 / 7.0).ceil() as usize).max(1);
    let mut ticks = Ticks::default();
    for power in (first..=last).step_by(every) {
        for factor in factors {
            let position = f64::from(power) + f64::from(*factor).log10();
            if range.contains(&position) {
                ticks.positions.push(position);
                ticks.labels.push(format!("{factor}e{power}"));
            }
        }
    }
    ticks
}

/// Returns the ticks of an axis of epochs: the first one, and round numbers.
pub fn epoch_ticks(epochs: usize) -> Ticks {
    let step = (round_step(epochs as f64 / 8.0) as usize).max(1);
    // A label too close to the first one would touch it.
    let round = (step..=epochs).step_by(step).filter(|epoch| step == 1 || *epoch > step / 2 + 1);
    let first = (step > 1).then_some(1);
    let epochs: Vec<usize> = first.into_iter().chain(round).collect();
    Ticks {
        positions: epochs.iter().map(|epoch| *epoch as f64).collect(),
        labels: epochs.iter().map(usize::to_string).collect(),
    }
}
