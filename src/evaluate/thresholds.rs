//! Thresholds of classes: the class with the largest p/θ is predicted, with the θ that give the best balanced
//! accuracy on the validation split. Rare classes, which are seldom the most probable one, get small ones.

use std::cmp::Ordering;

use rayon::prelude::*;
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
        let count = actions.first().map_or(0, |(probabilities, _)| probabilities.len());
        let columns = columns(actions, count);
        // Without each of the parts, so that an action is judged by thresholds that have not seen it, and
        // in the end of all.
        let found: Vec<Vec<f64>> = (0..=FOLDS)
            .into_par_iter()
            .map(|fold| {
                let members = (0..actions.len()).filter(|index| index % FOLDS != fold).collect();
                Search::new(actions, &columns, members, count).run()
            })
            .collect();
        let ones = vec![1.0; count];
        let before = actions.iter().map(|action| (action.1, predicted(action, &ones)));
        let after = actions.iter().enumerate().map(|(index, action)| {
            let thresholds = &found[index % FOLDS];
            (action.1, predicted(action, thresholds))
        });
        Self {
            before: balanced_accuracy(count, before),
            after: balanced_accuracy(count, after),
            classes: found[FOLDS].clone(),
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

/// The probabilities of each class together, all actions' of one after the other: a class is looked at in
/// every action, and actions lie far apart.
fn columns(actions: &[Judged], count: usize) -> Vec<Vec<f64>> {
    let column = |class: usize| actions.iter().map(|action| action.0[class]).collect();
    (0..count).into_par_iter().map(column).collect()
}

/// An action in the search.
struct Member<'a> {
    /// Among all.
    index: usize,
    probabilities: &'a [f64],
    label: usize,
    /// The classes with the two largest shares p/θ and these. With many classes, shares are the same for
    /// most of them when one θ changes: all are computed again only where one of these has changed.
    top: [(usize, f64); 2],
}

/// The thresholds with the best balanced accuracy that changing one class at a time leads to; of equally
/// good ones those that change least.
struct Search<'a> {
    columns: &'a [Vec<f64>],
    members: Vec<Member<'a>>,
    /// What a right prediction of each class adds to the balanced accuracy.
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

    /// What happens to the balanced accuracy when the threshold of a class goes down.
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
    /// The class with the largest share if that of `class` were 0, and this share.
    fn best_but(&self, class: usize) -> (usize, f64) {
        let [first, second] = self.top;
        let other = if first.0 == class { second } else { first };
        // The only class, or one of which all shares are 0.
        if other.0 == class || ahead((class, 0.0), other) { (class, 0.0) } else { other }
    }
}

/// Whether a class is taken before another by their shares, as by [`largest`].
fn ahead(a: (usize, f64), b: (usize, f64)) -> bool {
    match a.1.total_cmp(&b.1) {
        Ordering::Greater => true,
        Ordering::Equal => a.0 < b.0,
        Ordering::Less => false,
    }
}

/// The two that are ahead of all others; twice the same where there is but one.
fn two_largest(probabilities: &[f64], thresholds: &[f64]) -> [(usize, f64); 2] {
    let mut shares = probabilities.iter().zip(thresholds).map(|(p, t)| p / t).enumerate();
    let first = shares.next().expect("a task has classes");
    let Some(second) = shares.next() else { return [first, first] };
    let two = if ahead(first, second) { [first, second] } else { [second, first] };
    shares.fold(two, with)
}

/// The two that are ahead when there is one more.
fn with([first, second]: [(usize, f64); 2], new: (usize, f64)) -> [(usize, f64); 2] {
    match (ahead(new, first), ahead(new, second)) {
        (true, _) => [new, first],
        (false, true) => [first, new],
        (false, false) => [first, second],
    }
}

/// The balanced accuracy as the threshold of a class goes down.
struct Changes {
    /// Where no action counts for the class.
    score: f64,
    /// For each action the limit below which it does, and what that adds.
    limits: Vec<(f64, f64)>,
}

/// The best threshold of a class beside those of the others; it is `now`. Going down through all limits,
/// one action after the other changes sides.
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
    let stays = |limit: f64| limit > now;
    consider(
        score
            + changes.iter().filter(|(limit, _)| stays(*limit)).map(|(_, gain)| gain).sum::<f64>(),
        now,
    );
    for pair in changes.windows(2) {
        let ((limit, gain), (next, _)) = (pair[0], pair[1]);
        score += gain;
        let threshold = (limit * next).sqrt();
        // Beside a share of 0 it would be infinite.
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

    /// The search in the plainest way: all shares of all actions for each class.
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
                        // Shares that are equal, and that are 0.
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
