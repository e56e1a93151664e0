//! Class thresholds: the class with the largest p/θ is predicted, with the thresholds θ that give the best
//! balanced accuracy on the validation split. Rare classes, which are seldom the most probable, get small
//! thresholds.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::calibration::Judged;
use crate::metrics::{ConfusionMatrix, largest};

/// Number of folds for the cross-validated estimate of the gain from the thresholds.
const FOLDS: usize = 5;
/// Maximum number of rounds over all classes.
const ROUNDS: usize = 5;

/// A task's thresholds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Threshold θ of each class; the largest is 1.
    pub classes: Vec<f64>,
    /// Balanced accuracy on the validation split without thresholds.
    pub before: f64,
    /// Balanced accuracy with thresholds, by cross-validation: each fifth of the split is evaluated with
    /// thresholds fitted to the other four.
    pub after: f64,
}

impl Thresholds {
    /// Fits the thresholds to actions, given as their probabilities and classes.
    pub(super) fn fit(actions: &[Judged]) -> Self {
        let count = actions.first().map_or(0, |(probabilities, _)| probabilities.len());
        let columns = columns(actions, count);
        // Fits leave out one fold each, so that an action is evaluated with thresholds that were not fitted
        // to it; the last fit takes all actions.
        let fits: Vec<Vec<f64>> = (0..=FOLDS)
            .into_par_iter()
            .map(|fold| {
                let members = (0..actions.len()).filter(|index| index % FOLDS != fold).collect();
                Search::new(actions, &columns, members, count).run()
            })
            .collect();
        let ones = vec![1.0; count];
        let before = actions.iter().map(|action| (action.1, predicted(action, &ones)));
        let after = actions.iter().enumerate().map(|(index, action)| {
            let thresholds = &fits[index % FOLDS];
            (action.1, predicted(action, thresholds))
        });
        Self {
            before: balanced_accuracy(count, before),
            after: balanced_accuracy(count, after),
            classes: fits[FOLDS].clone(),
        }
    }

    /// Divides probabilities by the thresholds and renormalises their sum to 1.
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

/// Returns the balanced accuracy of pairs of label and predicted class.
fn balanced_accuracy(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> f64 {
    let mut matrix = ConfusionMatrix::new(classes);
    for (label, predicted) in pairs {
        matrix.add(label, predicted).expect("labels and predictions are classes of the task");
    }
    matrix.balanced_accuracy()
}

/// Returns the probabilities grouped by class, each with the values of all actions: the search scans one
/// class over all actions, whose probabilities are scattered in memory.
fn columns(actions: &[Judged], count: usize) -> Vec<Vec<f64>> {
    let column = |class: usize| actions.iter().map(|action| action.0[class]).collect();
    (0..count).into_par_iter().map(column).collect()
}

/// An action in the search.
struct Member<'a> {
    /// Index among all actions.
    index: usize,
    probabilities: &'a [f64],
    label: usize,
    /// The two classes with the largest shares p/θ, and these shares. When one θ changes, the shares of all
    /// other classes stay the same: they are recomputed only if that class is one of these two.
    top: [(usize, f64); 2],
}

/// Coordinate search for the thresholds with the best balanced accuracy, one class at a time; among equally
/// good thresholds it takes those that change least.
struct Search<'a> {
    columns: &'a [Vec<f64>],
    members: Vec<Member<'a>>,
    /// Contribution of one correct prediction to the balanced accuracy, per class.
    worth: Vec<f64>,
    thresholds: Vec<f64>,
}

impl<'a> Search<'a> {
    fn new(
        actions: &'a [Judged],
        columns: &'a [Vec<f64>],
        members: Vec<usize>,
        count: usize,
    ) -> Self {
        let thresholds = vec![1.0; count];
        let mut supports = vec![0.0; count];
        members.iter().for_each(|&index| supports[actions[index].1] += 1.0);
        let classes = supports.iter().filter(|support| **support > 0.0).count() as f64;
        let worth = supports.iter().map(|support| 1.0 / (support * classes)).collect();
        let member = |index: usize| {
            let (probabilities, label) = &actions[index];
            let top = two_largest(probabilities, &thresholds);
            Member { index, probabilities, label: *label, top }
        };
        let members = members.into_iter().map(member).collect();
        Self { columns, members, worth, thresholds }
    }

    fn run(mut self) -> Vec<f64> {
        for _ in 0..ROUNDS {
            let before = self.thresholds.clone();
            for class in 0..before.len() {
                let threshold = improved(self.changes(class), self.thresholds[class]);
                self.set(class, threshold);
            }
            if self.thresholds == before {
                break;
            }
        }
        let most = self.thresholds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        self.thresholds.iter().map(|threshold| threshold / most).collect()
    }

    /// Returns how the balanced accuracy changes as the threshold of a class is lowered.
    fn changes(&self, class: usize) -> Changes {
        let mut score = 0.0;
        let limits = self.members.iter().map(|member| {
            let (other, share) = member.best_but(class);
            let worth = self.worth[member.label];
            let lost = if other == member.label { worth } else { 0.0 };
            score += lost;
            let won = if class == member.label { worth } else { 0.0 };
            (self.columns[class][member.index] / share.max(f64::MIN_POSITIVE), won - lost)
        });
        let limits = limits.collect();
        Changes { score, limits }
    }

    fn set(&mut self, class: usize, threshold: f64) {
        if self.thresholds[class] == threshold {
            return;
        }
        self.thresholds[class] = threshold;
        for member in &mut self.members {
            let share = self.columns[class][member.index] / threshold;
            member.top = match member.top.iter().any(|(other, _)| *other == class) {
                true => two_largest(member.probabilities, &self.thresholds),
                false => with(member.top, (class, share)),
            };
        }
    }
}

impl Member<'_> {
    /// Returns the class that would have the largest share if that of `class` were 0, and its share.
    fn best_but(&self, class: usize) -> (usize, f64) {
        let [first, second] = self.top;
        let other = if first.0 == class { second } else { first };
        // It is the only class, or all other shares are 0.
        if other.0 == class || ahead((class, 0.0), other) { (class, 0.0) } else { other }
    }
}

/// Whether class `a` wins over class `b` by their shares, with ties resolved as in [`largest`].
fn ahead(a: (usize, f64), b: (usize, f64)) -> bool {
    match a.1.total_cmp(&b.1) {
        Ordering::Greater => true,
        Ordering::Equal => a.0 < b.0,
        Ordering::Less => false,
    }
}

/// Returns the two classes that are ahead of all others; the same one twice if there is only one.
fn two_largest(probabilities: &[f64], thresholds: &[f64]) -> [(usize, f64); 2] {
    let mut shares = probabilities.iter().zip(thresholds).map(|(p, t)| p / t).enumerate();
    let first = shares.next().expect("a task has classes");
    let Some(second) = shares.next() else { return [first, first] };
    let two = if ahead(first, second) { [first, second] } else { [second, first] };
    shares.fold(two, with)
}

/// Returns the two classes that are ahead once `new` is added.
fn with([first, second]: [(usize, f64); 2], new: (usize, f64)) -> [(usize, f64); 2] {
    match (ahead(new, first), ahead(new, second)) {
        (true, _) => [new, first],
        (false, true) => [first, new],
        (false, false) => [first, second],
    }
}

/// The balanced accuracy as a function of the threshold of a class.
struct Changes {
    /// Balanced accuracy while no action is predicted as the class.
    score: f64,
    /// For each action, the threshold below which it is predicted as the class, and the gain from that.
    limits: Vec<(f64, f64)>,
}

/// Returns the best threshold of a class, given those of the others; `now` is its current threshold. As the
/// threshold is lowered through the limits, one action after the other is predicted as the class.
fn improved(changes: Changes, now: f64) -> f64 {
    let Changes { mut score, limits: mut changes } = changes;
    changes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let distance = |threshold: f64| (threshold / now).ln().abs();
    let mut best = (f64::NEG_INFINITY, now);
    let mut consider = |score: f64, threshold: f64| {
        // Rounding must not look like a gain.
        let gain = score - best.0;
        if gain > 1e-9 || (gain > -1e-9 && distance(threshold) < distance(best.1)) {
            best = (score, threshold);
        }
    };
    let is_predicted = |limit: f64| limit > now;
    consider(
        score
            + changes
                .iter()
                .filter(|(limit, _)| is_predicted(*limit))
                .map(|(_, gain)| gain)
                .sum::<f64>(),
        now,
    );
    for pair in changes.windows(2) {
        let ((limit, gain), (next, _)) = (pair[0], pair[1]);
        score += gain;
        let threshold = (limit * next).sqrt();
        // It would be infinite if the share of the best other class is 0.
        if next < limit && threshold.is_normal() {
            consider(score, threshold);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Draws labels from the probabilities of a well calibrated network; most belong to class 0.
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

    /// Brute-force search: recomputes all shares of all actions for each class.
    fn by_all_shares(actions: &[&Judged]) -> Vec<f64> {
        let count = actions[0].0.len();
        let mut supports = vec![0.0; count];
        actions.iter().for_each(|(_, label)| supports[*label] += 1.0);
        let classes = supports.iter().filter(|support| **support > 0.0).count() as f64;
        let worth = |label: usize| 1.0 / (supports[label] * classes);
        let mut thresholds = vec![1.0; count];
        for _ in 0..ROUNDS {
            let before = thresholds.clone();
            for class in 0..count {
                let mut score = 0.0;
                let limit = |(probabilities, label): &&Judged| {
                    let mut shares: Vec<f64> =
                        probabilities.iter().zip(&thresholds).map(|(p, t)| p / t).collect();
                    shares[class] = 0.0;
                    let other = largest(&shares);
                    let lost = if other == *label { worth(*label) } else { 0.0 };
                    score += lost;
                    let won = if class == *label { worth(*label) } else { 0.0 };
                    (probabilities[class] / shares[other].max(f64::MIN_POSITIVE), won - lost)
                };
                let limits = actions.iter().map(limit).collect();
                thresholds[class] = improved(Changes { score, limits }, thresholds[class]);
            }
            if thresholds == before {
                break;
            }
        }
        let most = thresholds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        thresholds.iter().map(|threshold| threshold / most).collect()
    }

    #[test]
    fn the_two_largest_shares_are_enough() {
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        let mut moved = 0;
        for case in 0..60 {
            let (count, classes) = (rng.random_range(1..90), rng.random_range(1..9));
            let actions: Vec<Judged> = (0..count)
                .map(|_| {
                    let mut raw: Vec<f64> = (0..classes).map(|_| rng.random::<f64>()).collect();
                    match case % 3 {
                        // Some shares are equal, and some are 0.
                        0 => raw.iter_mut().for_each(|value| *value = (*value * 3.0).floor()),
                        1 => raw.iter_mut().for_each(|value| *value = value.powi(8)),
                        _ => {}
                    }
                    (raw, rng.random_range(0..classes))
                })
                .collect();
            let wanted = by_all_shares(&actions.iter().collect::<Vec<_>>());
            let columns = columns(&actions, classes);
            let members = (0..count).collect();
            let found = Search::new(&actions, &columns, members, classes).run();
            assert_eq!(found, wanted, "case {case}: {actions:?}");
            let usable = |threshold: &f64| *threshold > 0.0 && *threshold <= 1.0;
            assert!(found.iter().all(usable), "case {case}: {found:?}");
            moved += usize::from(found.iter().any(|threshold| *threshold != 1.0));
        }
        assert!(moved > 30, "{moved} of 60 have thresholds at all");
    }

    #[test]
    fn a_frequent_class_gets_the_largest_threshold_and_all_gain() {
        let actions = drawn(2000, 2.0);
        let found = Thresholds::fit(&actions);
        // The optimal decision divides by the frequency of a class.
        let shares = [0, 1, 2].map(|class| {
            actions.iter().filter(|(_, label)| *label == class).count() as f64 / 2000.0
        });
        assert_eq!(found.classes[0], 1.0);
        for class in [1, 2] {
            let wanted = shares[class] / shares[0];
            let error = (found.classes[class] / wanted).ln().abs();
            assert!(error < 0.5, "{found:?} {shares:?}");
        }
        assert!(found.after > found.before + 0.1, "{found:?}");
        // Applied to probabilities, they give probabilities that lead to the same decisions.
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
        // The threshold of a class that never occurs stays the same.
        let actions: Vec<Judged> = (0..30).map(|index| sure(index % 2)).collect();
        assert_eq!(Thresholds::fit(&actions).classes, [1.0; 3]);
    }

    #[test]
    fn the_gain_is_not_measured_on_the_actions_that_were_fitted() {
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
