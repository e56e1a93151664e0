//! Confidence intervals of metrics by the bootstrap (Efron 1979): the actions are drawn again with
//! replacement, and the metrics' percentiles over many draws bound the interval.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::metrics::{ConfusionMatrix, MetricsError, mean};

/// Draws of as many actions as there are.
const DRAWS: usize = 1000;
/// The same actions give the same interval.
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
    /// Of values in any order; `None` without values.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (below, rest) = (place.floor() as usize, place.fract());
            let above = (below + 1).min(values.len() - 1);
            values[below] + rest * (values[above] - values[below])
        };
        (!values.is_empty()).then(|| Self { low: at(0.025), high: at(0.975) })
    }
}

/// The intervals of a task's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TaskIntervals {
    /// Of the accuracy.
    pub accuracy: Interval,
    /// Of the balanced accuracy.
    pub balanced_accuracy: Interval,
    /// Of the unweighted mean of the classes' F1.
    pub f1_macro: Interval,
}

/// An action's label and predicted class in each task; `None` where the label is unknown.
pub(super) type Judged = Vec<Option<(usize, usize)>>;

/// The intervals of each task's metrics, given its number of classes, and of the score: the mean of the
/// balanced accuracies. `None` for a task without labels, and for the score where there is none at all.
pub(super) fn intervals(
    actions: &[Judged],
    classes: &[usize],
) -> Result<(Vec<Option<TaskIntervals>>, Option<Interval>), MetricsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut values = vec![[const { Vec::new() }; 3]; classes.len()];
    let mut scores = Vec::new();
    if actions.is_empty() {
        return Ok((vec![None; classes.len()], None));
    }
    for _ in 0..DRAWS {
        let mut matrices: Vec<ConfusionMatrix> =
            classes.iter().map(|&classes| ConfusionMatrix::new(classes)).collect();
        let mut counts = vec![0; classes.len()];
        for _ in 0..actions.len() {
            let action = &actions[rng.random_range(0..actions.len())];
            for (task, pair) in action.iter().enumerate() {
                if let Some((label, predicted)) = *pair {
                    matrices[task].add(label, predicted)?;
                    counts[task] += 1;
                }
            }
        }
        let drawn: Vec<usize> = (0..classes.len()).filter(|task| counts[*task] > 0).collect();
        for &task in &drawn {
            let matrix = &matrices[task];
            let metrics = [matrix.accuracy(), matrix.balanced_accuracy(), matrix.f1_macro()];
            values[task].iter_mut().zip(metrics).for_each(|(all, value)| all.push(value));
        }
        if !drawn.is_empty() {
            scores.push(mean(drawn.iter().map(|&task| matrices[task].balanced_accuracy())));
        }
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
        let actions: Vec<Judged> = (0..200).map(judged).collect();
        let (tasks, score) = intervals(&actions, &[2, 3]).unwrap();
        let Interval { low, high } = tasks[0].unwrap().accuracy;
        assert!((low - 0.7446).abs() < 0.015 && (high - 0.8554).abs() < 0.015, "{low} {high}");
        let balanced = tasks[0].unwrap().balanced_accuracy;
        assert_eq!(score, Some(balanced), "the only task with labels");
        assert_eq!(tasks[1], None);
        assert_eq!(intervals(&[], &[2]).unwrap(), (vec![None], None));
    }

    #[test]
    fn percentiles_are_interpolated() {
        let values = (0..=100).rev().map(f64::from).collect();
        assert_eq!(Interval::of(values), Some(Interval { low: 2.5, high: 97.5 }));
        assert_eq!(Interval::of(vec![3.0]), Some(Interval { low: 3.0, high: 3.0 }));
    }
}
