//! The learning rate range test: Smith 2017, "Cyclical Learning Rates for Training Neural Networks",
//! section 3.3, with an exponentially rising rate and a smoothed loss as in fastai and Lightning.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::error::TrainError;
use super::run::Run;
use crate::config::{Config, ConfigError, OptionError};
use crate::metrics::mean;
use crate::report::Observer;

/// Decay of the exponential moving average of the loss.
const BETA: f64 = 0.98;
/// The test ends when the smoothed loss exceeds its lowest value by this factor.
const DIVERGED: f64 = 4.0;
/// Minimum number of steps of a test.
pub(crate) const FEWEST: usize = 20;
/// Width of the window on each side of a step over which the slope of the loss is fitted, decades of the
/// rate.
const SIDE_DECADES: f64 = 1.0;
/// The window on each side has at most 1/`SIDE_DIVISOR` of all steps.
const SIDE_DIVISOR: usize = 5;
/// The window on each side has at least this many steps.
const MIN_SIDE_STEPS: usize = 3;
/// A slope counts as a clear fall if it is at most this many standard errors.
const CLEAR: f64 = -4.0;

/// A training step of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LrPoint {
    /// Learning rate of the step's update.
    pub rate: f64,
    /// Loss of the step's batch, before the update.
    pub loss: f64,
    /// Exponential moving average of the losses up to this step, with bias correction.
    pub smoothed: f64,
}

/// Why a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LrEnd {
    /// All steps are done.
    Finished,
    /// The smoothed loss exceeded 4 times its lowest value, or a loss or gradient was not finite.
    Diverged,
    /// The user stopped the test.
    Interrupted,
}

/// Result of a test: the loss over the rising rate, and suggested rates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LrCurve {
    /// The steps in order.
    pub points: Vec<LrPoint>,
    /// Why the test ended.
    pub end: LrEnd,
    /// What was trained: the heads, and any stages of the backbone.
    pub trained: Vec<String>,
    /// Option of `polyview train` that sets the rate, without dashes.
    pub option: &'static str,
    /// Rate around which the loss falls most clearly. A line is fitted to the losses up to a decade on
    /// either side, over the logarithm of the rate; this is where its slope is the most standard errors
    /// below 0. `None` if it is nowhere at least 4 standard errors below 0.
    pub suggestion: Option<f64>,
    /// A tenth of the rate at which the smoothed loss is lowest. `None` without a suggestion: if
    /// the loss does not fall, the position of its minimum is down to chance.
    pub tenth_of_lowest: Option<f64>,
}

/// Trains a fresh network for `steps` steps while the rate rises exponentially through `range`. The
/// same rate applies to everything that the run's first epoch would train: only the heads in a run
/// of two phases, otherwise what the freezing strategy starts with. Mixing, augmentation and loss
/// are the run's; after the data of one epoch the test continues with those of the next. Nothing is
/// written. Setting `stop` ends the test after the step in progress and returns the steps so far.
///
/// # Errors
/// An invalid range or number of steps, and those of [`super::run()`]. A loss that is not finite is an
/// error in the first step only.
pub fn lr_find(
    config: &Config,
    steps: usize,
    range: RangeInclusive<f64>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<LrCurve, TrainError> {
    let (from, to) = (*range.start(), *range.end());
    check(steps, from, to)?;
    let config = standalone(config, steps);
    let mut run = Run::open(&config, None, stop, observer)?;
    let (phase, trainable) = run.first_phase();
    let rate = |step| rate(from, to, step, steps);

    let (mut points, mut smoothing) = (Vec::with_capacity(steps), Smoothing::default());
    let mut end = LrEnd::Finished;
    let result = run.at_rates(steps, &rate, &mut |loss| {
        let smoothed = smoothing.push(loss);
        points.push(LrPoint { rate: rate(points.len()), loss, smoothed });
        if smoothing.has_diverged(smoothed) {
            end = LrEnd::Diverged;
        }
        end != LrEnd::Diverged && points.len() < steps
    });
    match result {
        // The expected outcome of a rate that is too high.
        Err(TrainError::NotFinite { .. }) if !points.is_empty() => end = LrEnd::Diverged,
        other => other?,
    }
    if end == LrEnd::Finished && points.len() < steps && stop.load(Ordering::Relaxed) {
        end = LrEnd::Interrupted;
    }
    let suggestion = clearest_fall(&points);
    let lowest = suggestion.and(lowest(&points));
    Ok(LrCurve {
        suggestion: suggestion.map(|index| points[index].rate),
        tenth_of_lowest: lowest.map(|index| points[index].rate / 10.0),
        trained: std::iter::once("heads").chain(trainable.names()).map(str::to_owned).collect(),
        option: match (config.freezing.gradual_finetuning, phase) {
            (true, 1) => "head-lr",
            (true, _) => "backbone-lr",
            (false, _) => "lr",
        },
        points,
        end,
    })
}

fn check(steps: usize, from: f64, to: f64) -> Result<(), ConfigError> {
    let refuse = |option: &str, value: f64, reason: String| {
        Err(ConfigError::Option(OptionError::new(option, value, reason)))
    };
    if steps < FEWEST {
        return refuse("steps", steps as f64, format!("must be at least {FEWEST}"));
    }
    if !(from > 0.0 && from.is_finite()) {
        return refuse("from", from, "must be a number above 0".to_owned());
    }
    if !(to > from && to.is_finite()) {
        return refuse("to", to, format!("must be above --from ({from:e})"));
    }
    Ok(())
}

/// Returns the configuration of a fresh run that writes nothing.
fn standalone(config: &Config, steps: usize) -> Config {
    let mut config = config.clone();
    if config.run.resume.take().is_some() {
        log::warn!("resume has no effect here: the test trains a fresh network");
    }
    if std::mem::take(&mut config.run.compare_freezing) {
        log::warn!("compare-freezing has no effect here");
    }
    if config.run.record.take().is_some() {
        log::warn!("record has no effect here");
    }
    if config.run.test_run {
        log::warn!("test-run has no effect here: the number of steps is given");
    }
    config.run.resume_best_acc = None;
    config.run.test_run = true;
    config.run.test_batches = steps;
    // The average is only used for validation, and there is none.
    config.optimizer.ema = None;
    config
}

/// Returns the rate of a step, counted from 0, of `steps` steps.
fn rate(from: f64, to: f64, step: usize, steps: usize) -> f64 {
    let share = step as f64 / (steps - 1) as f64;
    from * (to / from).powf(share)
}

/// An exponential moving average with bias correction, like Adam's moments.
#[derive(Debug, Default)]
struct Smoothing {
    average: f64,
    /// 1 − [`BETA`]ⁿ after n values.
    weight: f64,
    lowest: Option<f64>,
}

impl Smoothing {
    /// Adds a value and returns the corrected average.
    fn push(&mut self, value: f64) -> f64 {
        self.average = BETA * self.average + (1.0 - BETA) * value;
        self.weight = BETA * self.weight + (1.0 - BETA);
        let smoothed = self.average / self.weight;
        self.lowest = Some(self.lowest.map_or(smoothed, |lowest| lowest.min(smoothed)));
        smoothed
    }

    fn has_diverged(&self, smoothed: f64) -> bool {
        !smoothed.is_finite() || self.lowest.is_some_and(|lowest| smoothed > DIVERGED * lowest)
    }
}

/// Returns the index at which the loss falls most clearly. Differences between single steps are
/// dominated by batch noise: the steepest one is often just the recovery from an outlier. The
/// smoothed loss is no alternative, as it lags behind.
fn clearest_fall(points: &[LrPoint]) -> Option<usize> {
    let decades = (points.last()?.rate / points.first()?.rate).log10();
    let side =
        (SIDE_DECADES * points.len() as f64 / decades).min((points.len() / SIDE_DIVISOR) as f64);
    let side = (side as usize).max(MIN_SIDE_STEPS);
    (side..)
        .zip(points.windows(2 * side + 1).map(slope_in_errors))
        .filter(|(_, slope)| *slope <= CLEAR)
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(index, _)| index)
}

/// Fits a line to the losses over the logarithm of the rate by least squares and returns its slope in
/// standard errors (the t-value).
fn slope_in_errors(points: &[LrPoint]) -> f64 {
    let rates = || points.iter().map(|point| point.rate.log10());
    let (x, y) = (mean(rates()), mean(points.iter().map(|point| point.loss)));
    let pairs = || rates().map(|rate| rate - x).zip(points.iter().map(|point| point.loss - y));
    let spread: f64 = pairs().map(|(x, _)| x * x).sum();
    let slope = pairs().map(|(x, y)| x * y).sum::<f64>() / spread;
    let rest: f64 = pairs().map(|(x, y)| (y - slope * x).powi(2)).sum();
    slope / (rest / (points.len() - 2) as f64 / spread).sqrt()
}

/// Returns the index at which the smoothed loss is lowest.
fn lowest(points: &[LrPoint]) -> Option<usize> {
    (0..points.len()).min_by(|a, b| points[*a].smoothed.total_cmp(&points[*b].smoothed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points with these smoothed losses, and rates from 1e-6 at ten points per decade.
    fn curve(smoothed: &[f64]) -> Vec<LrPoint> {
        let point = |(index, &smoothed): (usize, &f64)| LrPoint {
            rate: 1e-6 * 10f64.powf(index as f64 / 10.0),
            loss: smoothed,
            smoothed,
        };
        smoothed.iter().enumerate().map(point).collect()
    }

    #[test]
    fn rates_rise_by_the_same_factor_from_end_to_end() {
        let rates: Vec<f64> = (0..8).map(|step| rate(1e-7, 1.0, step, 8)).collect();
        for (step, rate) in rates.iter().enumerate() {
            let expected = 10f64.powi(step as i32 - 7);
            assert!((rate / expected - 1.0).abs() < 1e-12, "{rate} {expected}");
        }
    }

    #[test]
    fn smoothing_starts_at_the_first_loss_and_forgets_it() {
        let mut smoothing = Smoothing::default();
        assert!((smoothing.push(3.0) - 3.0).abs() < 1e-12);
        // (0.98·0.02·3 + 0.02·1) / (1 − 0.98²)
        assert!((smoothing.push(1.0) - 0.0788 / 0.0396).abs() < 1e-12);
        let last = (0..1000).map(|_| smoothing.push(1.0)).last().unwrap();
        assert!((last - 1.0).abs() < 1e-6);
        assert!(!smoothing.has_diverged(3.9) && smoothing.has_diverged(4.1));
        assert!(smoothing.has_diverged(f64::NAN) && smoothing.has_diverged(f64::INFINITY));
    }

    /// Pseudo-random integers from -8 to 8.
    fn noise(index: usize) -> f64 {
        ((index * 7919 + 13) % 17) as f64 - 8.0
    }

    #[test]
    fn the_suggestion_is_within_the_fall_despite_noise() {
        let fall = |index: usize| 2.0 - 1.0 / (1.0 + (-(index as f64 - 30.0) / 4.0).exp());
        let rise = |index: usize| (index as f64 - 45.0).max(0.0).powi(2) * 0.01;
        let mut losses: Vec<f64> =
            (0..60).map(|index| fall(index) + rise(index) + 0.02 * noise(index)).collect();
        // Steep falls of single steps: at the beginning, and where the rate is too high.
        losses[0] = 9.0;
        losses[50] = 7.0;
        let points = curve(&losses);
        let found = clearest_fall(&points).unwrap();
        assert!((26..=34).contains(&found), "{found}");
        let lowest = lowest(&points).unwrap();
        assert!((38..=48).contains(&lowest), "{lowest}");
    }

    #[test]
    fn a_loss_that_does_not_clearly_fall_has_no_suggestion() {
        let flat: Vec<f64> = (0..60).map(|index| 2.0 + 0.1 * noise(index)).collect();
        assert_eq!(clearest_fall(&curve(&flat)), None);
        let losses: Vec<f64> = (0..30).map(f64::from).collect();
        assert_eq!(clearest_fall(&curve(&losses)), None);
        assert_eq!(lowest(&curve(&losses)), Some(0));
        let falling: Vec<f64> = losses.iter().map(|loss| -loss).collect();
        for few in 0..7 {
            assert_eq!(clearest_fall(&curve(&falling[..few])), None);
        }
        assert!(clearest_fall(&curve(&falling[..12])).is_some());
        assert_eq!(lowest(&[]), None);
    }
}
