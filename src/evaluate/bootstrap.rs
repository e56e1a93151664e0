//! Confidence intervals of metrics by the bootstrap (Efron 1979): the actions are resampled with
//! replacement, and percentiles of the metrics over many resamples bound the interval. If a resample lacks
//! a rare class, the class counts with its metrics in the whole split. Otherwise a mean over fewer classes
//! would be a different metric, and the absence of a class that is always wrong would raise the interval.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::metrics::{
    self, ClassMetrics, ConfusionMatrix, MetricsError, balanced_accuracy, f1_macro,
};

/// Number of resamples, each with as many actions as the split.
const DRAWS: usize = 1000;
/// Seed of the resampling, constant so that the same actions give the same interval.
const SEED: u64 = 0;

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

impl Interval {
    /// Returns the interval of values in any order; `None` without values.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let position = share * (values.len() - 1) as f64;
            let (below, rest) = (position.floor() as usize, position.fract());
            let above = (below + 1).min(values.len() - 1);
            values[below] + rest * (values[above] - values[below])
        };
        (!values.is_empty()).then(|| Self { low: at(0.025), high: at(0.975) })
    }
}

/// Confidence intervals of a task's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TaskIntervals {
    /// Interval of the accuracy.
    pub accuracy: Interval,
    /// Interval of the balanced accuracy.
    pub balanced_accuracy: Interval,
    /// Interval of the unweighted mean of the classes' F1.
    pub f1_macro: Interval,
}

/// Difference of a metric between two sets of predictions for the same actions, first minus second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Difference over the actions of the split.
    pub value: f64,
    /// 95 % confidence interval of the difference, by the paired bootstrap.
    pub interval: Interval,
    /// Whether the interval excludes 0 (and, between runs, whether there are enough actions).
    pub excludes_zero: bool,
}

impl Difference {
    fn new(value: f64, interval: Interval) -> Self {
        // Two equal means may differ by rounding.
        let excludes_zero = interval.low > 1e-9 || interval.high < -1e-9;
        Self { value, interval, excludes_zero }
    }
}

/// Differences of a task's metrics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskDifferences {
    pub balanced_accuracy: Difference,
    /// Difference of each class's recall; `None` for a class without actions.
    pub recalls: Vec<Option<Difference>>,
}

/// An action's label and predicted class in each task; `None` where the label is unknown.
pub(crate) type Answers = Vec<Option<(usize, usize)>>;

/// Returns the resamples: in each, the indices of `actions` actions, drawn with replacement.
fn draws(actions: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let count = if actions == 0 { 0 } else { DRAWS };
    (0..count).map(move |_| (0..actions).map(|_| rng.random_range(0..actions)).collect())
}

/// Returns the confusion matrix of each task; `classes` are the tasks' numbers of classes.
pub(crate) fn matrices<'a>(
    actions: impl IntoIterator<Item = &'a Answers>,
    classes: &[usize],
) -> Result<Vec<ConfusionMatrix>, MetricsError> {
    let mut matrices: Vec<ConfusionMatrix> =
        classes.iter().map(|&classes| ConfusionMatrix::new(classes)).collect();
    for action in actions {
        for (matrix, pair) in matrices.iter_mut().zip(action) {
            if let Some((label, predicted)) = *pair {
                matrix.add(label, predicted)?;
            }
        }
    }
    Ok(matrices)
}

/// Returns the metrics of each class in a resample, or in the `split` if the resample lacks the class.
fn drawn(matrix: &ConfusionMatrix, split: &ConfusionMatrix) -> Vec<ClassMetrics> {
    let pairs = matrix.per_class().into_iter().zip(split.per_class());
    pairs.map(|(draw, split)| if draw.support > 0 { draw } else { split }).collect()
}

/// Returns the score of a resample; `None` if no task has labels in the split.
fn score(matrices: &[ConfusionMatrix], split: &[ConfusionMatrix]) -> Option<f64> {
    metrics::score(matrices.iter().zip(split).map(|(matrix, split)| {
        (split.total() > 0).then(|| balanced_accuracy(&drawn(matrix, split)))
    }))
}

/// Returns the intervals of each task's metrics and of the score, the mean of the balanced accuracies.
/// `classes` are the tasks' numbers of classes. `None` for a task without labels, and for the score if
/// there are no labels at all.
pub(crate) fn intervals(
    actions: &[Answers],
    classes: &[usize],
) -> Result<(Vec<Option<TaskIntervals>>, Option<Interval>), MetricsError> {
    let mut values = vec![[const { Vec::new() }; 3]; classes.len()];
    let mut scores = Vec::new();
    let split = matrices(actions, classes)?;
    for draw in draws(actions.len()) {
        let matrices = matrices(draw.into_iter().map(|action| &actions[action]), classes)?;
        for (values, (matrix, split)) in values.iter_mut().zip(matrices.iter().zip(&split)) {
            if matrix.total() > 0 {
                let classes = drawn(matrix, split);
                let metrics = [matrix.accuracy(), balanced_accuracy(&classes), f1_macro(&classes)];
                values.iter_mut().zip(metrics).for_each(|(all, value)| all.push(value));
            }
        }
        scores.extend(score(&matrices, &split));
    }
    let task = |values: [Vec<f64>; 3]| {
        let [accuracy, balanced_accuracy, f1_macro] = values.map(Interval::of);
        Some(TaskIntervals {
            accuracy: accuracy?,
            balanced_accuracy: balanced_accuracy?,
            f1_macro: f1_macro?,
        })
    };
    Ok((values.into_iter().map(task).collect(), Interval::of(scores)))
}

/// Returns the differences between the metrics of two networks' answers, `[one, other]`, as one minus
/// other. Both are for the same actions in the same order and with the same labels. The bootstrap is
/// paired: each resample takes the same actions for both networks, so that an action that is hard for both
/// does not widen the interval. `None` as in [`intervals`].
pub(crate) fn differences(
    answers: [&[Answers]; 2],
    classes: &[usize],
) -> Result<(Vec<Option<TaskDifferences>>, Option<Difference>), MetricsError> {
    let mut balanced: Vec<Vec<f64>> = vec![Vec::new(); classes.len()];
    let mut recalls: Vec<Vec<Vec<f64>>> =
        classes.iter().map(|&classes| vec![Vec::new(); classes]).collect();
    let mut scores = Vec::new();
    let wholes = [matrices(answers[0], classes)?, matrices(answers[1], classes)?];
    for draw in draws(answers[0].len()) {
        let of =
            |answers: &[Answers]| matrices(draw.iter().map(|&action| &answers[action]), classes);
        let [one, other] = [of(answers[0])?, of(answers[1])?];
        let both = score(&one, &wholes[0]).zip(score(&other, &wholes[1]));
        scores.extend(both.map(|(one, other)| one - other));
        for (task, (one, other)) in one.iter().zip(&other).enumerate() {
            if one.total() > 0 {
                let of =
                    |matrix, which: usize| balanced_accuracy(&drawn(matrix, &wholes[which][task]));
                balanced[task].push(of(one, 0) - of(other, 1));
            }
            let pairs = one.per_class().into_iter().zip(other.per_class());
            for (values, (one, other)) in recalls[task].iter_mut().zip(pairs) {
                if one.support > 0 {
                    values.push(one.recall - other.recall);
                }
            }
        }
    }
    let [one, other] = &wholes;
    let tasks = balanced.into_iter().zip(recalls).zip(one.iter().zip(other));
    let tasks = tasks.map(|((balanced, recalls), (one, other))| {
        let value = one.balanced_accuracy() - other.balanced_accuracy();
        let pairs = one.per_class().into_iter().zip(other.per_class());
        let recalls = recalls.into_iter().zip(pairs).map(|(values, (one, other))| {
            Some(Difference::new(one.recall - other.recall, Interval::of(values)?))
        });
        Some(TaskDifferences {
            balanced_accuracy: Difference::new(value, Interval::of(balanced)?),
            recalls: recalls.collect(),
        })
    });
    let tasks = tasks.collect();
    let whole = score(one, one).zip(score(other, other)).zip(Interval::of(scores));
    Ok((tasks, whole.map(|((one, other), interval)| Difference::new(one - other, interval))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_an_accuracy_is_that_of_the_binomial_distribution() {
        // 160 of 200 are right: 0.8 ± 1.96·√(0.8·0.2/200).
        let judged = |action: usize| {
            vec![Some((action % 2, if action < 160 { action % 2 } else { 1 - action % 2 })), None]
        };
        let actions: Vec<Answers> = (0..200).map(judged).collect();
        let (tasks, score) = intervals(&actions, &[2, 3]).unwrap();
        let Interval { low, high } = tasks[0].unwrap().accuracy;
        assert!((low - 0.7446).abs() < 0.015 && (high - 0.8554).abs() < 0.015, "{low} {high}");
        let balanced = tasks[0].unwrap().balanced_accuracy;
        assert_eq!(score, Some(balanced), "the only task with labels");
        assert_eq!(tasks[1], None);
        assert_eq!(intervals(&[], &[2]).unwrap(), (vec![None], None));
    }

    #[test]
    fn a_class_that_a_draw_lacks_does_not_raise_the_mean() {
        // Class 0 is always predicted, and the others have one action each.
        let labels = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
        let constant: Vec<Answers> = labels.map(|label| vec![Some((label, 0))]).into();
        let (tasks, score) = intervals(&constant, &[4]).unwrap();
        let quarter = Some(Interval { low: 0.25, high: 0.25 });
        assert_eq!((Some(tasks[0].unwrap().balanced_accuracy), score), (quarter, quarter));
        let whole = matrices(&constant, &[4]).unwrap()[0].f1_macro();
        let Interval { low, high } = tasks[0].unwrap().f1_macro;
        assert!(low < whole && whole < high && high < 0.26, "{low} {high}");
        // In every resample, the network that is always right is better by as much as in the split.
        let right: Vec<Answers> = labels.map(|label| vec![Some((label, label))]).into();
        let (_, whole) = differences([&constant, &right], &[4]).unwrap();
        assert_eq!(whole.unwrap().interval, Interval { low: -0.75, high: -0.75 });
    }

    /// Answers of two networks for actions of one task with two classes, all of class 0. `counts` are the
    /// numbers of actions for which both are right, only the first, only the second, and neither.
    fn pair(counts: [usize; 4]) -> [Vec<Answers>; 2] {
        let kinds = [[0, 0], [0, 1], [1, 0], [1, 1]];
        let each = |network: usize| {
            let answers = kinds.iter().zip(counts);
            answers
                .flat_map(|(kind, count)| vec![vec![Some((0, kind[network]))]; count])
                .collect::<Vec<Answers>>()
        };
        [each(0), each(1)]
    }

    #[test]
    fn the_interval_of_a_paired_difference_is_that_of_its_closed_form() {
        // 300 both right, 40 only one, 20 only the other, 40 neither: the difference is (b − c)/n, and its
        // variance that of a mean of −1, 0 and 1 (McNemar): (b + c − (b − c)²/n)/n².
        let [one, other] = pair([300, 40, 20, 40]);
        let (tasks, whole) = differences([&one, &other], &[2]).unwrap();
        let task = tasks[0].clone().unwrap();
        let Difference { value, interval, excludes_zero } = task.balanced_accuracy;
        assert!((value - 0.05).abs() < 1e-12 && excludes_zero);
        let half = 1.96 * (60.0_f64 - 400.0 / 400.0).sqrt() / 400.0;
        assert!((interval.low - (0.05 - half)).abs() < 0.006, "{interval:?}");
        assert!((interval.high - (0.05 + half)).abs() < 0.006, "{interval:?}");
        assert_eq!(task.recalls, [Some(task.balanced_accuracy), None]);
        assert_eq!(whole, Some(task.balanced_accuracy), "the only task");
        // Independent resamples for each network would make it wider.
        let width = |interval: Interval| interval.high - interval.low;
        let alone = [&one, &other].map(|answers| {
            let (tasks, _) = intervals(answers, &[2]).unwrap();
            width(tasks[0].unwrap().balanced_accuracy)
        });
        assert!(alone[0].hypot(alone[1]) > 1.2 * width(interval));

        let [one, other] = pair([300, 31, 29, 40]);
        let (tasks, _) = differences([&one, &other], &[2]).unwrap();
        assert!(!tasks[0].clone().unwrap().balanced_accuracy.excludes_zero);
        let (tasks, whole) = differences([&one, &one], &[2]).unwrap();
        let none = Difference::new(0.0, Interval { low: 0.0, high: 0.0 });
        assert_eq!((tasks[0].clone().unwrap().balanced_accuracy, whole), (none, Some(none)));
        assert_eq!(differences([&[], &[]], &[2, 3]).unwrap(), (vec![None, None], None));
    }

    #[test]
    fn paired_differences_are_those_of_the_same_draws() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let classes = [3, 4];
        let mut answers = || -> [Answers; 2] {
            let mut pair = [Vec::new(), Vec::new()];
            for classes in classes {
                let label = rng.random_bool(0.9).then(|| rng.random_range(0..classes));
                for answers in &mut pair {
                    answers.push(label.map(|label| (label, rng.random_range(0..classes))));
                }
            }
            pair
        };
        let (one, other): (Vec<_>, Vec<_>) = (0..60).map(|_| answers()).map(<(_, _)>::from).unzip();
        let (tasks, whole) = differences([&one, &other], &classes).unwrap();

        // Computed directly, from recalls over lists.
        let recall = |all: &[Answers], draw: &[usize], task: usize, class: usize| {
            let pairs = draw.iter().filter_map(|&action| all[action][task]);
            let right: Vec<bool> =
                pairs.filter(|(label, _)| *label == class).map(|(_, p)| p == class).collect();
            let count = right.iter().filter(|right| **right).count();
            (!right.is_empty()).then(|| count as f64 / right.len() as f64)
        };
        let balanced = |all: &[Answers], draw: &[usize], task: usize| {
            let recalls: Vec<f64> =
                (0..classes[task]).filter_map(|class| recall(all, draw, task, class)).collect();
            recalls.iter().sum::<f64>() / recalls.len() as f64
        };
        let drawn: Vec<Vec<usize>> = draws(60).collect();
        let near = |found: Difference, values: Vec<f64>| {
            let expected = Interval::of(values).unwrap();
            let error = (found.interval.low - expected.low).abs()
                + (found.interval.high - expected.high).abs();
            assert!(error < 1e-12, "{found:?}, {expected:?}");
        };
        type Metric<'a> = &'a dyn Fn(&[Answers], &[usize]) -> Option<f64>;
        let values = |of: Metric| -> Vec<f64> {
            drawn.iter().filter_map(|draw| Some(of(&one, draw)? - of(&other, draw)?)).collect()
        };
        for (task, found) in tasks.into_iter().enumerate() {
            let found = found.unwrap();
            near(found.balanced_accuracy, values(&|all, draw| Some(balanced(all, draw, task))));
            for (class, found) in found.recalls.into_iter().enumerate() {
                near(found.unwrap(), values(&|all, draw| recall(all, draw, task, class)));
            }
        }
        let score = |all: &[Answers], draw: &[usize]| {
            Some((balanced(all, draw, 0) + balanced(all, draw, 1)) / 2.0)
        };
        near(whole.unwrap(), values(&score));
    }

    #[test]
    fn percentiles_are_interpolated() {
        let values = (0..=100).rev().map(f64::from).collect();
        assert_eq!(Interval::of(values), Some(Interval { low: 2.5, high: 97.5 }));
        assert_eq!(Interval::of(vec![3.0]), Some(Interval { low: 3.0, high: 3.0 }));
    }
}
