//! The learning rate range test: Smith 2017, "Cyclical Learning Rates for Training Neural Networks",
//! section 3.3, with the rate rising exponentially and the smoothed loss of fastai's and Lightning's.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::error::TrainError;
use super::run::Run;
use crate::config::{Config, ConfigError, OptionError};
use crate::metrics::mean;
use crate::report::Observer;

/// Weight of the past in the smoothed loss.
const BETA: f64 = 0.98;
/// The test ends when the smoothed loss is this many times its lowest value.
const DIVERGED: f64 = 4.0;
/// Fewest steps of a test.
pub(crate) const FEWEST: usize = 20;
/// Decades of rates on each side of a step whose losses decide whether the loss falls there.
const DECADES: f64 = 1.0;
/// Each side has at most one in so many of all steps.
const PART: usize = 5;
/// Each side has at least so many steps.
const FEWEST_BESIDE: usize = 3;
/// A fall counts if its slope is below this many standard errors.
const CLEAR: f64 = -4.0;

/// A training step of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LrPoint {
    /// Learning rate of its update.
    pub rate: f64,
    /// Loss of its batch, before the update.
    pub loss: f64,
    /// Exponential average of the losses up to here, corrected for its start at 0.
    pub smoothed: f64,
}

/// Why a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LrEnd {
    /// All steps are done.
    Finished,
    /// The smoothed loss was above 4 times its lowest value, or a loss or gradient was not finite.
    Diverged,
    /// The user stopped it.
    Interrupted,
}

/// The loss as the rate rises.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LrCurve {
    /// The steps, in order.
    pub points: Vec<LrPoint>,
    /// Why there are no more.
    pub end: LrEnd,
    /// What was trained: the heads, and stages of the backbone.
    pub trained: Vec<String>,
    /// The option of `polyview train` that takes the rate, without dashes.
    pub option: &'static str,
    /// The rate around which the loss falls most clearly: where the slope of a line through the losses up
    /// to a decade to each side, over the logarithm of the rate, is most standard errors below 0. `None`
    /// where it is nowhere 4 of them.
    pub suggestion: Option<f64>,
    /// A tenth of the rate at which the smoothed loss is lowest; `None` without a suggestion, as a loss that
    /// does not fall is lowest by chance.
    pub tenth_of_lowest: Option<f64>,
}

/// Trains a fresh network for `steps` steps while the rate rises exponentially through `range`. One rate
/// serves all that the run's first epoch would train: in a run of two phases the heads alone, else
/// what the freezing strategy begins with. Mixing, augmentation and loss are the run's; after an epoch's
/// data come the next one's. Nothing is written. Raising `stop` ends the test after the step in
/// progress, with what it has.
///
/// # Errors
/// A range or a number of steps that makes no test, and as [`super::run()`]. A loss that is not finite is an
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
    let config = alone(config, steps);
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
        // What a rate that is too high leads to.
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

/// The configuration of a run that begins anew and writes nothing.
fn alone(config: &Config, steps: usize) -> Config {
    let mut config = config.clone();
    if config.run.resume.take().is_some() {
        log::warn!("--resume has no effect here: the test trains a fresh network");
    }
    if std::mem::take(&mut config.run.compare_freezing) {
        log::warn!("--compare-freezing has no effect here");
    }
    if config.run.record.take().is_some() {
        log::warn!("--record has no effect here");
    }
    if config.run.test_run {
        log::warn!("--test-run has no effect here: --steps says how much is trained");
    }
    config.run.resume_best_acc = None;
    config.run.test_run = true;
    config.run.test_batches = steps;
    // For validation, of which there is none.
    config.optimizer.ema = None;
    config
}

/// The rate of a step of so many, counted from 0.
fn rate(from: f64, to: f64, step: usize, steps: usize) -> f64 {
    let share = step as f64 / (steps - 1) as f64;
    from * (to / from).powf(share)
}

/// An exponential average, corrected for its start at 0 (as Adam's moments are).
#[derive(Debug, Default)]
struct Smoothing {
    average: f64,
    /// [`BETA`] to the power of the number of values, subtracted from 1.
    weight: f64,
    lowest: Option<f64>,
}

impl Smoothing {
    /// The average with one more value.
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

/// Where the loss falls most clearly. Single steps say little: in the noise of the batches the steepest
/// fall is often the one back from a loss that was already too high. And the smoothed loss lags behind.
fn clearest_fall(points: &[LrPoint]) -> Option<usize> {
    let decades = (points.last()?.rate / points.first()?.rate).log10();
    let beside = (DECADES * points.len() as f64 / decades).min((points.len() / PART) as f64);
    let beside = (beside as usize).max(FEWEST_BESIDE);
    (beside..)
        .zip(points.windows(2 * beside + 1).map(slope_in_errors))
        .filter(|(_, slope)| *slope <= CLEAR)
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(index, _)| index)
}

/// The slope of a line through the losses over the logarithm of the rate, by least squares, in its standard
/// errors (the t-value).
fn slope_in_errors(points: &[LrPoint]) -> f64 {
    let rates = || points.iter().map(|point| point.rate.log10());
    let (x, y) = (mean(rates()), mean(points.iter().map(|point| point.loss)));
    let pairs = || rates().map(|rate| rate - x).zip(points.iter().map(|point| point.loss - y));
    let spread: f64 = pairs().map(|(x, _)| x * x).sum();
    let slope = pairs().map(|(x, y)| x * y).sum::<f64>() / spread;
    let rest: f64 = pairs().map(|(x, y)| (y - slope * x).powi(2)).sum();
    slope / (rest / (points.len() - 2) as f64 / spread).sqrt()
}

/// Where the smoothed loss is lowest.
fn lowest(points: &[LrPoint]) -> Option<usize> {
    (0..points.len()).min_by(|a, b| points[*a].smoothed.total_cmp(&points[*b].smoothed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of these smoothed losses, a decade of rates per ten of them from 1e-6.
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
    fn smoothing_begins_at_the_first_loss_and_forgets() {
        let mut smoothing = Smoothing::default();
        assert!((smoothing.push(3.0) - 3.0).abs() < 1e-12);
        // (0.98·0.02·3 + 0.02·1) / (1 − 0.98²)
        assert!((smoothing.push(1.0) - 0.0788 / 0.0396).abs() < 1e-12);
        let last = (0..1000).map(|_| smoothing.push(1.0)).last().unwrap();
        assert!((last - 1.0).abs() < 1e-6);
        assert!(!smoothing.has_diverged(3.9) && smoothing.has_diverged(4.1));
        assert!(smoothing.has_diverged(f64::NAN) && smoothing.has_diverged(f64::INFINITY));
    }

    /// Whole numbers from -8 to 8 that look random.
    fn noise(index: usize) -> f64 {
        ((index * 7919 + 13) % 17) as f64 - 8.0
    }

    #[test]
    fn the_suggestion_is_within_the_fall_not_in_the_noise() {
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
