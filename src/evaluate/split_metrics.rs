//! Metrics of a split's predictions.

use serde::Serialize;

use super::ActionPrediction;
use super::bootstrap::{Answers, Interval, TaskIntervals, intervals};
use super::calibration::expected_error;
use crate::metrics::{ClassMetrics, ConfusionMatrix, METRICS, MetricsError, score};
use crate::schema::Schema;

/// A split's metrics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitMetrics {
    /// Number of labelled actions.
    pub actions: usize,
    /// Metrics of each task, in schema order.
    pub tasks: Vec<TaskMetrics>,
    /// Mean of the tasks' balanced accuracies, the score by which training selects the best epoch. Tasks
    /// without a known label do not count; `None` if all are without.
    pub score: Option<f64>,
    /// 95 % confidence interval of the score; `None` without labels.
    pub score_interval: Option<Interval>,
}

/// A task's metrics. Those over all classes are `None` without a known label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskMetrics {
    /// The task's name.
    pub task: String,
    /// Share of correct predictions.
    pub accuracy: Option<f64>,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: Option<f64>,
    /// F1 weighted by support.
    pub f1_weighted: Option<f64>,
    /// Unweighted mean of the classes' F1.
    pub f1_macro: Option<f64>,
    /// Expected calibration error of the probabilities.
    pub ece: Option<f64>,
    /// Metrics of the decided actions; `None` unless a minimum confidence is requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decided>,
    /// 95 % confidence intervals; `None` without labels.
    pub intervals: Option<TaskIntervals>,
    /// Class names with their metrics.
    pub classes: Vec<(String, ClassMetrics)>,
    /// Confusion matrix; rows are labels, columns predictions.
    pub confusion: Vec<Vec<u64>>,
    /// Wrong predictions, the most confident first.
    pub mistakes: Vec<Mistake>,
}

/// Metrics of the predictions with the minimum confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Decided {
    /// Share of these predictions among all; `None` without a known label.
    pub share: Option<f64>,
    /// Share of correct predictions among them; `None` if there are none.
    pub accuracy: Option<f64>,
    /// Mean recall over the classes that occur among them; `None` if there are none.
    pub balanced_accuracy: Option<f64>,
}

/// A wrong prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    /// The annotation's key.
    pub action: String,
    /// The actual class.
    pub label: String,
    /// The predicted class.
    pub predicted: String,
    /// Probability of the predicted class, 0 to 1.
    pub probability: f64,
}

/// Computes the metrics of the labelled actions among `predictions`, and of those whose predicted class has
/// a probability of at least `min_confidence`.
///
/// # Errors
/// [`MetricsError`] if a label is outside the schema's classes.
pub fn split_metrics(
    schema: &Schema,
    predictions: &[ActionPrediction],
    min_confidence: Option<f64>,
) -> Result<SplitMetrics, MetricsError> {
    let labelled: Vec<&ActionPrediction> =
        predictions.iter().filter(|action| action.labels.len() == schema.tasks.len()).collect();
    let judge = |action: &&ActionPrediction| -> Answers {
        let labels = action.labels.iter().enumerate();
        labels.map(|(task, label)| Some(((*label)?, action.predicted(task)))).collect()
    };
    let judged: Vec<Answers> = labelled.iter().map(judge).collect();
    let classes: Vec<usize> = schema.tasks.iter().map(|task| task.classes.len()).collect();
    let (intervals, score_interval) = intervals(&judged, &classes)?;
    let tasks: Vec<TaskMetrics> = schema
        .tasks
        .iter()
        .zip(intervals)
        .enumerate()
        .map(|(index, (task, intervals))| {
            let mut matrix = ConfusionMatrix::new(task.classes.len());
            let mut mistakes = Vec::new();
            let mut confidences = Vec::new();
            let mut decided = ConfusionMatrix::new(task.classes.len());
            for action in &labelled {
                let Some(label) = action.labels[index] else { continue };
                let predicted = action.predicted(index);
                matrix.add(label, predicted)?;
                let confidence = action.confidence(index);
                confidences.push((confidence, label == predicted));
                if min_confidence.is_some_and(|least| confidence >= least) {
                    decided.add(label, predicted)?;
                }
                if label != predicted {
                    mistakes.push(Mistake {
                        action: action.action.clone(),
                        label: task.classes[label].name.clone(),
                        predicted: task.classes[predicted].name.clone(),
                        probability: action.probabilities[index][predicted],
                    });
                }
            }
            mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            let known = Some(&matrix).filter(|all| all.total() > 0);
            let sure = Some(&decided).filter(|decided| decided.total() > 0);
            let [accuracy, balanced_accuracy, f1_weighted, f1_macro] =
                METRICS.map(|metric| known.map(metric.of));
            Ok(TaskMetrics {
                task: task.name.clone(),
                accuracy,
                balanced_accuracy,
                f1_weighted,
                f1_macro,
                decided: min_confidence.map(|_| Decided {
                    share: known.map(|all| decided.total() as f64 / all.total() as f64),
                    accuracy: sure.map(ConfusionMatrix::accuracy),
                    balanced_accuracy: sure.map(ConfusionMatrix::balanced_accuracy),
                }),
                ece: known.map(|_| expected_error(confidences)),
                intervals,
                classes: task.class_names().into_iter().zip(matrix.per_class()).collect(),
                confusion: matrix.rows(),
                mistakes,
            })
        })
        .collect::<Result<_, MetricsError>>()?;
    let score = score(tasks.iter().map(|task| task.balanced_accuracy));
    Ok(SplitMetrics { actions: labelled.len(), tasks, score, score_interval })
}
