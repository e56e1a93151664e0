//! Thresholds of classes: the class with the largest p/θ is predicted, with the θ that give the best balanced
//! accuracy on the validation split. Rare classes, which are seldom the most probable one, get small ones.

use serde::{Deserialize, Serialize};

use super::calibration::Judged;
use crate::metrics::{ConfusionMatrix, largest};

/// Parts of the split for the estimate of what the thresholds gain.
const FOLDS: usize = 5;
/// Rounds over all classes.
const ROUNDS: usize = 5;

/// A task's thresholds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// θ of each class, the largest 1.
    pub classes: Vec<f64>,
    /// Balanced accuracy on the validation split without them.
    pub before: f64,
    /// And with them, each fifth of the split with the thresholds of the other four.
    pub after: f64,
}

impl Thresholds {
    /// Those of actions with their probabilities and classes.
    pub(super) fn fit(actions: &[Judged]) -> Self {
        let all: Vec<&Judged> = actions.iter().collect();
        let count = actions.first().map_or(0, |(probabilities, _)| probabilities.len());
        let ones = vec![1.0; count];
        // Whole folds at a time, so that each action is judged by thresholds that have not seen it.
        let parts = (0..FOLDS).map(|fold| {
            let [mut own, mut others] = [Vec::new(), Vec::new()];
            for (index, action) in all.iter().enumerate() {
                if index % FOLDS == fold { own.push(*action) } else { others.push(*action) }
            }
            let thresholds = thresholds(&others);
            own.into_iter().map(move |action| (action.1, predicted(action, &thresholds)))
        });
        Self {
            before: balanced_accuracy(
                count,
                all.iter().map(|action| (action.1, predicted(action, &ones))),
            ),
            after: balanced_accuracy(count, parts.flatten()),
            classes: thresholds(&all),
        }
    }

    /// Divides probabilities by the thresholds and brings their sum to 1 again.
    pub(super) fn apply(&self, probabilities: &mut [f64]) {
        probabilities.iter_mut().zip(&self.classes).for_each(|(p, threshold)| *p /= threshold);
        let sum: f64 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|p| *p /= sum);
    }
}

fn predicted((probabilities, _): &Judged, thresholds: &[f64]) -> usize {
    let shares: Vec<f64> = probabilities.iter().zip(thresholds).map(|(p, t)| p / t).collect();
    largest(&shares)
}

/// Balanced accuracy of labels and predicted classes.
fn balanced_accuracy(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> f64 {
    let mut matrix = ConfusionMatrix::new(classes);
    for (label, predicted) in pairs {
        matrix.add(label, predicted).expect("labels and predictions are classes of the task");
    }
    matrix.balanced_accuracy()
}

/// The thresholds with the best balanced accuracy that changing one class at a time leads to; of equally
/// good ones those that change least.
fn thresholds(actions: &[&Judged]) -> Vec<f64> {
    let count = actions.first().map_or(0, |(probabilities, _)| probabilities.len());
    let mut thresholds = vec![1.0; count];
    for _ in 0..ROUNDS {
        let before = thresholds.clone();
        for class in 0..count {
            let threshold = improved(actions, &thresholds, class);
            thresholds[class] = threshold;
        }
        if thresholds == before {
            break;
        }
    }
    let most = thresholds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    thresholds.iter().map(|threshold| threshold / most).collect()
}

/// The best threshold of a class beside those of the others. An action counts for the class if the threshold
/// is below its limit; going down through all limits, one action after the other changes sides.
fn improved(actions: &[&Judged], thresholds: &[f64], class: usize) -> f64 {
    let mut supports = vec![0.0; thresholds.len()];
    actions.iter().for_each(|(_, label)| supports[*label] += 1.0);
    let classes = supports.iter().filter(|support| **support > 0.0).count() as f64;
    let worth = |label: usize| 1.0 / (supports[label] * classes);
    // Of each action its limit, and what it adds to the score by changing sides.
    let mut score = 0.0;
    let mut changes: Vec<(f64, f64)> = actions
        .iter()
        .map(|(probabilities, label)| {
            let mut shares: Vec<f64> =
                probabilities.iter().zip(thresholds).map(|(p, t)| p / t).collect();
            shares[class] = 0.0;
            let other = largest(&shares);
            let lost = if other == *label { worth(*label) } else { 0.0 };
            score += lost;
            let won = if class == *label { worth(*label) } else { 0.0 };
            (probabilities[class] / shares[other].max(f64::MIN_POSITIVE), won - lost)
        })
        .collect();
    changes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let now = thresholds[class];
    let distance = |threshold: f64| (threshold / now).ln().abs();
    let mut best = (f64::NEG_INFINITY, now);
    let mut consider = |score: f64, threshold: f64| {
        // Rounding must not look like a gain.
        let gain = score - best.0;
        if gain > 1e-9 || (gain > -1e-9 && distance(threshold) < distance(best.1)) {
            best = (score, threshold);
        }
    };
    let stays = |limit: f64| limit > now;
    consider(
        score
            + changes.iter().filter(|(limit, _)| stays(*limit)).map(|(_, gain)| gain).sum::<f64>(),
        now,
    );
    for pair in changes.windows(2) {
        let ((limit, gain), (next, _)) = (pair[0], pair[1]);
        score += gain;
        if next < limit && next > 0.0 && limit.is_finite() {
            consider(score, (limit * next).sqrt());
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Labels drawn from the probabilities of a well calibrated network; class 0 has most of them.
    fn drawn(count: usize, head_start: f64) -> Vec<Judged> {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut action = || {
            let raw: [f64; 3] = std::array::from_fn(|class| {
                let start = if class == 0 { head_start } else { 0.0 };
                (rng.random_range(-1.5..1.5) + start).exp()
            });
            let probabilities = raw.map(|value| value / raw.iter().sum::<f64>());
            let mut rest: f64 = rng.random();
            let label = probabilities.iter().position(|p| {
                rest -= p;
                rest < 0.0
            });
            (probabilities.to_vec(), label.unwrap_or(2))
        };
        (0..count).map(|_| action()).collect()
    }

    #[test]
    fn a_frequent_class_gets_the_largest_threshold_and_all_gain() {
        let actions = drawn(2000, 2.0);
        let found = Thresholds::fit(&actions);
        // The best decision divides by how frequent a class is.
        let shares = [0, 1, 2].map(|class| {
            actions.iter().filter(|(_, label)| *label == class).count() as f64 / 2000.0
        });
        assert_eq!(found.classes[0], 1.0);
        for class in [1, 2] {
            let wanted = shares[class] / shares[0];
            let off = (found.classes[class] / wanted).ln().abs();
            assert!(off < 0.5, "{found:?} {shares:?}");
        }
        assert!(found.after > found.before + 0.1, "{found:?}");
        // Applied to probabilities they give the same decisions, as probabilities.
        for action in &actions {
            let mut probabilities = action.0.clone();
            found.apply(&mut probabilities);
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert_eq!(largest(&probabilities), predicted(action, &found.classes));
        }
    }

    #[test]
    fn where_nothing_is_gained_nothing_changes() {
        let sure = |label: usize| {
            let probabilities = (0..3).map(|class| if class == label { 0.8 } else { 0.1 });
            (probabilities.collect::<Vec<f64>>(), label)
        };
        let actions: Vec<Judged> = (0..30).map(|index| sure(index % 3)).collect();
        let found = Thresholds::fit(&actions);
        assert_eq!(found, Thresholds { classes: vec![1.0; 3], before: 1.0, after: 1.0 });
        assert_eq!(Thresholds::fit(&[]).classes, Vec::<f64>::new());
        // A class that never occurs is left as it is.
        let actions: Vec<Judged> = (0..30).map(|index| sure(index % 2)).collect();
        assert_eq!(Thresholds::fit(&actions).classes, [1.0; 3]);
    }

    #[test]
    fn what_is_gained_is_not_measured_on_the_actions_that_were_fitted() {
        // Labels that have nothing to do with the probabilities: any gain would be an illusion.
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut action = || {
            let p: f64 = rng.random_range(0.2..0.8);
            (vec![p, 1.0 - p], rng.random_range(0..2))
        };
        let actions: Vec<Judged> = (0..60).map(|_| action()).collect();
        let found = Thresholds::fit(&actions);
        let fitted = balanced_accuracy(
            2,
            actions.iter().map(|action| (action.1, predicted(action, &found.classes))),
        );
        assert!(fitted > found.before && found.after < fitted - 0.02, "{found:?} {fitted}");
    }
}
