//! Classification metrics over a whole split, with scikit-learn's definitions.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// Why counts cannot be made or combined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// A class index is too large.
    #[error("label {label} or prediction {prediction} is outside the {classes} classes")]
    OutOfRange {
        /// The label.
        label: usize,
        /// The prediction.
        prediction: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Two matrices of different sizes cannot be added.
    #[error("confusion matrices of {ours} and {theirs} classes cannot be added")]
    Sizes {
        /// Number of classes of the matrix that is added to.
        ours: usize,
        /// Number of classes of the other matrix.
        theirs: usize,
    },
    /// There are not as many predictions as labels.
    #[error("{labels} labels, but {predictions} predictions")]
    Lengths {
        /// Number of labels.
        labels: usize,
        /// Number of predictions.
        predictions: usize,
    },
}

/// Counts of (label, prediction) pairs, from which all metrics are computed.
///
/// A quotient of 0/0 (no sample at all, a class without samples or predictions) counts as 0.
///
/// ```
/// use polyview::metrics::ConfusionMatrix;
/// let matrix = ConfusionMatrix::from_pairs(3, &[0, 0, 0, 1], &[0, 0, 1, 1])?;
/// assert_eq!(matrix.accuracy(), 0.75);
/// assert_eq!(matrix.balanced_accuracy(), (2.0 / 3.0 + 1.0) / 2.0); // class 2 does not occur
/// # Ok::<(), polyview::metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    classes: usize,
    /// `classes * classes`, row-major; rows are labels.
    counts: Vec<u64>,
}

/// A metric over all classes of a task.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name in files.
    pub name: &'static str,
    /// Name on pages.
    pub title: &'static str,
    /// Computes the metric.
    pub of: fn(&ConfusionMatrix) -> f64,
}

/// All metrics of a task, in the order in which they are listed in files and on pages.
pub const METRICS: [Metric; 4] = [
    Metric { name: "accuracy", title: "Accuracy", of: ConfusionMatrix::accuracy },
    Metric {
        name: "balanced_accuracy",
        title: "Balanced accuracy",
        of: ConfusionMatrix::balanced_accuracy,
    },
    Metric { name: "f1_weighted", title: "Weighted F1", of: ConfusionMatrix::f1_weighted },
    Metric { name: "f1_macro", title: "Macro F1", of: ConfusionMatrix::f1_macro },
];

/// Returns the score by which epochs and runs are compared, given each task's balanced accuracy: their mean.
/// Tasks without labels, which have none, do not count; `None` if all are without.
pub(crate) fn score(tasks: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let labelled: Vec<f64> = tasks.into_iter().flatten().collect();
    (!labelled.is_empty()).then(|| mean(labelled.into_iter()))
}

/// Metrics of one class. Serialised with null for a share that is 0/0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMetrics {
    /// TP / (TP + FP).
    pub precision: f64,
    /// TP / (TP + FN).
    pub recall: f64,
    /// 2 TP / (2 TP + FP + FN).
    pub f1: f64,
    /// Number of samples with this label.
    pub support: u64,
    /// Number of samples with this prediction.
    pub predicted: u64,
}

impl ClassMetrics {
    /// Returns precision, recall and F1 for display: `None` where one is 0/0, although it counts as 0 in
    /// means.
    pub fn defined(&self) -> [Option<f64>; 3] {
        let defined = |share: f64, of: u64| (of > 0).then_some(share);
        [
            defined(self.precision, self.predicted),
            defined(self.recall, self.support),
            defined(self.f1, self.support + self.predicted),
        ]
    }
}

impl Serialize for ClassMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [precision, recall, f1] = self.defined();
        let mut fields = serializer.serialize_struct("ClassMetrics", 5)?;
        fields.serialize_field("precision", &precision)?;
        fields.serialize_field("recall", &recall)?;
        fields.serialize_field("f1", &f1)?;
        fields.serialize_field("support", &self.support)?;
        fields.serialize_field("predicted", &self.predicted)?;
        fields.end()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Maximum number of classes of a confusion matrix that is shown; a larger one would be unreadable.
pub(crate) const MOST_IN_MATRIX: usize = 60;
/// Number of confusions that are listed instead of a larger matrix.
pub(crate) const MOST_CONFUSIONS: usize = 20;

/// Returns the most frequent confusions of a matrix, at most `most`: label and prediction with their count.
pub(crate) fn confusions(rows: &[Vec<u64>], most: usize) -> Vec<([usize; 2], u64)> {
    let cells = rows.iter().enumerate().flat_map(|(label, row)| {
        row.iter().enumerate().map(move |(prediction, &count)| ([label, prediction], count))
    });
    let mut wrong: Vec<_> =
        cells.filter(|([label, prediction], count)| label != prediction && *count > 0).collect();
    // The sort is stable: confusions with the same count stay in the order of the classes.
    wrong.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    wrong.truncate(most);
    wrong
}

impl ConfusionMatrix {
    /// Creates an empty matrix.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts paired labels and predictions.
    ///
    /// # Errors
    /// [`MetricsError::Lengths`] and [`MetricsError::OutOfRange`].
    pub fn from_pairs(
        classes: usize,
        labels: &[usize],
        predictions: &[usize],
    ) -> Result<Self, MetricsError> {
        if labels.len() != predictions.len() {
            let (labels, predictions) = (labels.len(), predictions.len());
            return Err(MetricsError::Lengths { labels, predictions });
        }
        let mut matrix = Self::new(classes);
        for (label, prediction) in labels.iter().zip(predictions) {
            matrix.add(*label, *prediction)?;
        }
        Ok(matrix)
    }

    /// Creates a matrix from its rows, as returned by [`Self::rows`]; `None` if it is not square.
    pub fn from_rows(rows: &[Vec<u64>]) -> Option<Self> {
        let classes = rows.len();
        let square = rows.iter().all(|row| row.len() == classes);
        square.then(|| Self { classes, counts: rows.concat() })
    }

    /// Counts one sample.
    ///
    /// # Errors
    /// [`MetricsError::OutOfRange`].
    pub fn add(&mut self, label: usize, prediction: usize) -> Result<(), MetricsError> {
        let classes = self.classes;
        if label >= classes || prediction >= classes {
            return Err(MetricsError::OutOfRange { label, prediction, classes });
        }
        self.counts[label * classes + prediction] += 1;
        Ok(())
    }

    /// Adds the counts of another matrix, for example of another part of the split.
    ///
    /// # Errors
    /// [`MetricsError::Sizes`].
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        if self.classes != other.classes {
            return Err(MetricsError::Sizes { ours: self.classes, theirs: other.classes });
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        Ok(())
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the number of samples.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the count of a pair; 0 outside the classes.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        if label >= self.classes || prediction >= self.classes {
            return 0;
        }
        self.counts[label * self.classes + prediction]
    }

    /// Returns the rows of the matrix: for each label, the counts of the predictions.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        let row = |label| (0..self.classes).map(|p| self.count(label, p)).collect();
        (0..self.classes).map(row).collect()
    }

    /// Returns the share of correct predictions.
    pub fn accuracy(&self) -> f64 {
        ratio((0..self.classes).map(|c| self.count(c, c)).sum(), self.total())
    }

    /// Returns the mean recall over the classes that have samples; other classes do not count, even if
    /// they are predicted.
    pub fn balanced_accuracy(&self) -> f64 {
        balanced_accuracy(&self.per_class())
    }

    /// Returns the mean F1 of the classes, weighted by support.
    pub fn f1_weighted(&self) -> f64 {
        let total = self.total();
        if total == 0 {
            return 0.0;
        }
        let sum: f64 = self.per_class().iter().map(|c| c.f1 * c.support as f64).sum();
        sum / total as f64
    }

    /// Returns the unweighted mean of F1 over the classes that occur among labels or predictions.
    pub fn f1_macro(&self) -> f64 {
        f1_macro(&self.per_class())
    }

    /// Returns the metrics of every class, in index order.
    pub fn per_class(&self) -> Vec<ClassMetrics> {
        let class = |c| {
            let correct = self.count(c, c);
            let support = (0..self.classes).map(|p| self.count(c, p)).sum();
            let predicted = (0..self.classes).map(|l| self.count(l, c)).sum();
            ClassMetrics {
                precision: ratio(correct, predicted),
                recall: ratio(correct, support),
                // support + predicted = 2 TP + FN + FP
                f1: ratio(2 * correct, support + predicted),
                support,
                predicted,
            }
        };
        (0..self.classes).map(class).collect()
    }
}

/// Returns [`ConfusionMatrix::balanced_accuracy`] of these classes.
pub(crate) fn balanced_accuracy(classes: &[ClassMetrics]) -> f64 {
    mean(classes.iter().filter(|class| class.support > 0).map(|class| class.recall))
}

/// Returns [`ConfusionMatrix::f1_macro`] of these classes.
pub(crate) fn f1_macro(classes: &[ClassMetrics]) -> f64 {
    let occur = classes.iter().filter(|class| class.support + class.predicted > 0);
    mean(occur.map(|class| class.f1))
}

/// Returns the index of the largest value, the first one on a tie.
///
/// # Panics
/// If there are no values.
pub(crate) fn largest(values: &[f64]) -> usize {
    let best = (0..values.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b]));
    best.expect("a task has classes")
}

/// Returns the mean; 0 without values.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, n), value| (sum + value, n + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// A mean over repetitions, such as runs with different seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Standard error s/√n of the mean, with the sample standard deviation s; `None` for a single value.
    pub error: Option<f64>,
    /// Number of values.
    pub n: usize,
}

impl Estimate {
    /// Estimates the mean of some values; `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = (n > 0).then(|| mean(values.iter().copied()))?;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (n > 1).then(|| (squares / (n - 1) as f64 / n as f64).sqrt());
        Some(Self { mean, error, n })
    }
}

/// Formats with three decimals, and a no-break space between ± and the error.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.mean)?;
        self.error.map_or(Ok(()), |error| write!(f, " ±\u{a0}{error:.3}"))
    }
}
