//! Figures of a judged split.

use serde::Serialize;

use super::Judged;
use crate::metrics::{ClassMetrics, ConfusionMatrix, MetricsError};
use crate::schema::Schema;

/// A split's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Labelled actions.
    pub actions: usize,
    /// Per task, in the schema's order.
    pub tasks: Vec<TaskFigures>,
    /// Mean of the tasks' balanced accuracies: polyview's own score.
    pub score: f64,
}

/// A task's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskFigures {
    /// The task's name.
    pub task: String,
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: f64,
    /// F1 weighted by support.
    pub f1_weighted: f64,
    /// Plain mean of the classes' F1.
    pub f1_macro: f64,
    /// Class names with their figures.
    pub classes: Vec<(String, ClassMetrics)>,
    /// Rows: labels, columns: predictions.
    pub confusion: Vec<Vec<u64>>,
    /// Wrong answers, the surest first.
    pub mistakes: Vec<Mistake>,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    /// The action's key.
    pub action: String,
    /// What it is.
    pub label: String,
    /// What the network takes it for.
    pub predicted: String,
    /// How sure it is of that, 0 to 1.
    pub probability: f64,
}

/// The figures of the labelled actions among `judged`.
///
/// # Errors
/// [`MetricsError`] where a label is outside the schema's classes.
pub fn figures(schema: &Schema, judged: &[Judged]) -> Result<Figures, MetricsError> {
    let labelled: Vec<&Judged> =
        judged.iter().filter(|action| action.labels.len() == schema.tasks.len()).collect();
    let tasks: Vec<TaskFigures> = schema
        .tasks
        .iter()
        .enumerate()
        .map(|(index, task)| {
            let mut matrix = ConfusionMatrix::new(task.classes.len());
            let mut mistakes = Vec::new();
            for action in &labelled {
                let (label, predicted) = (action.labels[index], action.predicted(index));
                matrix.add(label, predicted)?;
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
            Ok(TaskFigures {
                task: task.name.clone(),
                accuracy: matrix.accuracy(),
                balanced_accuracy: matrix.balanced_accuracy(),
                f1_weighted: matrix.f1_weighted(),
                f1_macro: matrix.f1_macro(),
                classes: task.class_names().into_iter().zip(matrix.per_class()).collect(),
                confusion: matrix.rows(),
                mistakes,
            })
        })
        .collect::<Result<_, MetricsError>>()?;
    let sum: f64 = tasks.iter().map(|task| task.balanced_accuracy).sum();
    let score = sum / tasks.len().max(1) as f64;
    Ok(Figures { actions: labelled.len(), tasks, score })
}
