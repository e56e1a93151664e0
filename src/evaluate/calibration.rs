//! Calibration of probabilities: each task's logits are divided by a temperature fitted on the validation
//! split (Guo et al. 2017, "On Calibration of Modern Neural Networks"). This changes the network's
//! confidence; a predicted class can change only if several readings are averaged.

use serde::{Deserialize, Serialize};

use super::logits::ActionLogits;
use super::thresholds::Thresholds;
use crate::metrics::largest;

/// Number of bins of the expected calibration error, as in Guo et al.
const BINS: usize = 15;
/// Minimum number of actions; a task with fewer is not calibrated.
const FEWEST: usize = 20;
/// Range of the temperatures; one outside it reflects the scale of the logits more than the confidence. A
/// network that is right on all actions is not calibrated: its likelihood rises with its confidence
/// without bound.
const TEMPERATURES: [f64; 2] = [0.2, 20.0];

/// An action's logits (or probabilities) in a task, and its class.
pub type Judged = (Vec<f64>, usize);

/// Corrections of a network's probabilities, per task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Calibration of each task, in the schema's order.
    pub tasks: Vec<TaskCalibration>,
}

/// Correction of a task's probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskCalibration {
    /// Temperature that the logits are divided by.
    pub temperature: f64,
    /// Expected calibration error on the validation split before the calibration.
    pub ece_before: f64,
    /// Expected calibration error on the validation split after the calibration.
    pub ece_after: f64,
    /// Number of labelled actions in the validation split.
    pub actions: usize,
    /// Thresholds for the calibrated probabilities; `None` with too few actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
}

impl Calibration {
    /// Fits the calibration to the labelled actions of each task.
    pub fn fit(tasks: &[Vec<Judged>]) -> Self {
        Self { tasks: tasks.iter().map(|actions| TaskCalibration::fit(actions)).collect() }
    }

    /// Fits the calibration to the labelled actions among some outputs.
    pub(crate) fn of(outputs: &[ActionLogits]) -> Self {
        let tasks = outputs.iter().map(|output| output.tasks.len()).max().unwrap_or(0);
        let labelled = |task: usize| -> Vec<Judged> {
            let label = |output: &ActionLogits| output.labels.get(task).copied().flatten();
            let judged = |output: &ActionLogits| Some((output.tasks[task].clone(), label(output)?));
            outputs.iter().filter_map(judged).collect()
        };
        Self::fit(&(0..tasks).map(labelled).collect::<Vec<_>>())
    }

    /// Returns the thresholds of each task; `None` if any task has none.
    pub fn thresholds(&self) -> Option<Vec<Thresholds>> {
        self.tasks.iter().map(|task| task.thresholds.clone()).collect()
    }

    /// Returns the temperature of each task.
    pub fn temperatures(&self) -> Vec<f64> {
        self.tasks.iter().map(|task| task.temperature).collect()
    }
}

impl TaskCalibration {
    fn fit(actions: &[Judged]) -> Self {
        let temperature = if actions.len() < FEWEST { 1.0 } else { temperature(actions) };
        let error = |temperature: f64| {
            let predictions = actions.iter().map(|(logits, label)| {
                let probabilities = softmax(logits, temperature);
                let best = largest(&probabilities);
                (probabilities[best], best == *label)
            });
            expected_error(predictions)
        };
        let (ece_before, ece_after) = (error(1.0), error(temperature));
        let thresholds = (actions.len() >= FEWEST).then(|| {
            let calibrated = actions.iter().map(|(z, label)| (softmax(z, temperature), *label));
            Thresholds::fit(&calibrated.collect::<Vec<_>>())
        });
        Self { temperature, ece_before, ece_after, actions: actions.len(), thresholds }
    }
}

/// Returns the temperature with the smallest mean negative log-likelihood. That is convex in the inverse
/// temperature β, with the derivative Σ (Σ_c p_c·z_c − z_y), whose zero is found by bisection.
fn temperature(actions: &[Judged]) -> f64 {
    let slope = |beta: f64| -> f64 {
        let of = |(logits, label): &Judged| {
            let probabilities = softmax(logits, 1.0 / beta);
            let mean: f64 = probabilities.iter().zip(logits).map(|(p, z)| p * z).sum();
            mean - logits[*label]
        };
        actions.iter().map(of).sum()
    };
    let [mut low, mut high] = [1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]];
    if slope(low) >= 0.0 {
        return 1.0 / low;
    }
    if actions.iter().all(|(logits, label)| largest(logits) == *label) {
        return 1.0;
    }
    if slope(high) <= 0.0 {
        return 1.0 / high;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    2.0 / (low + high)
}

/// Returns the probabilities of logits divided by a temperature.
pub(super) fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised: Vec<f64> = logits.iter().map(|z| ((z - most) / temperature).exp()).collect();
    let sum: f64 = raised.iter().sum();
    raised.into_iter().map(|value| value / sum).collect()
}

/// Computes the expected calibration error of predictions, each given as its confidence and whether it is
/// right: the mean distance between confidence and accuracy in 15 bins of the confidence, weighted by the
/// bins' sizes (Naeini et al. 2015). 0 without predictions.
pub fn expected_error(predictions: impl IntoIterator<Item = (f64, bool)>) -> f64 {
    let mut bins = [(0.0, 0.0, 0_usize); BINS];
    let mut total = 0;
    for (confidence, right) in predictions {
        // Bins are open below: 1 belongs to the last one.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let (sure, correct, count) = &mut bins[bin];
        *sure += confidence;
        *correct += f64::from(u8::from(right));
        *count += 1;
        total += 1;
    }
    let distance: f64 = bins.iter().map(|(sure, correct, _)| (sure - correct).abs()).sum();
    if total == 0 { 0.0 } else { distance / total as f64 }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Draws labels from softmax(logits), then scales the logits by `exaggeration`.
    fn drawn(count: usize, exaggeration: f64) -> Vec<Judged> {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut action = || {
            let logits: Vec<f64> = (0..4).map(|_| rng.random_range(-2.0..2.0)).collect();
            let mut rest: f64 = rng.random();
            let label = softmax(&logits, 1.0).iter().position(|p| {
                rest -= p;
                rest < 0.0
            });
            (logits.iter().map(|z| z * exaggeration).collect(), label.unwrap_or(3))
        };
        (0..count).map(|_| action()).collect()
    }

    #[test]
    fn the_temperature_undoes_an_exaggeration() {
        for exaggeration in [0.4, 1.0, 3.0] {
            let task = TaskCalibration::fit(&drawn(4000, exaggeration));
            assert!((task.temperature / exaggeration - 1.0).abs() < 0.07, "{task:?}");
            assert!(task.ece_after < 0.03, "{task:?}");
            assert!(exaggeration == 1.0 || task.ece_before > 2.0 * task.ece_after, "{task:?}");
        }
        // No temperature has a smaller loss.
        let actions = drawn(300, 2.0);
        let loss = |t: f64| -> f64 { actions.iter().map(|(z, y)| -softmax(z, t)[*y].ln()).sum() };
        let best = temperature(&actions);
        assert!(loss(best) <= loss(best * 1.01) && loss(best) <= loss(best * 0.99));
    }

    #[test]
    fn few_actions_and_perfect_ones_have_bounded_temperatures() {
        assert_eq!(TaskCalibration::fit(&drawn(FEWEST - 1, 3.0)).temperature, 1.0);
        let right: Vec<Judged> = (0..50)
            .map(|n| (vec![f64::from(n % 2), f64::from(1 - n % 2)], usize::from(n % 2 == 0)))
            .collect();
        assert_eq!(TaskCalibration::fit(&right).temperature, 1.0);
        // Right in four of five, with low confidence.
        let underconfident: Vec<Judged> =
            (0..50).map(|n| (vec![0.1, -0.1], usize::from(n % 5 == 0))).collect();
        assert!((TaskCalibration::fit(&underconfident).temperature - TEMPERATURES[0]).abs() < 1e-9);
        let wrong: Vec<Judged> = right.iter().map(|(z, y)| (z.clone(), 1 - y)).collect();
        assert!((TaskCalibration::fit(&wrong).temperature - TEMPERATURES[1]).abs() < 1e-9);
        assert_eq!(TaskCalibration::fit(&[]).ece_before, 0.0);
    }

    #[test]
    fn the_error_is_the_mean_distance_within_bins() {
        // (0.9, 0.9 right) and (0.6, none right): (2·0.9 − 1 + 0.6 − 0) / 3.
        let predictions = [(0.9, true), (0.9, false), (0.6, false)];
        assert!((expected_error(predictions) - (0.8 + 0.6) / 3.0).abs() < 1e-12);
        assert_eq!(expected_error([(1.0, true)]), 0.0);
        assert_eq!(expected_error([]), 0.0);
    }
}
