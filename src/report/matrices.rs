//! Confusion matrices and metrics per class, formatted for the report.

use super::TaskRecord;
use crate::metrics::ConfusionMatrix;

/// A task's validation metrics, formatted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskTables {
    /// The task's name.
    pub name: String,
    /// The task's title.
    pub title: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Rows of the confusion matrix: labels.
    pub rows: Vec<MatrixRow>,
    /// One row per class.
    pub per_class: Vec<ClassRow>,
    /// Names and values of the metrics over all classes.
    pub totals: Vec<(&'static str, String)>,
}

/// The predictions for the actions of one class.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MatrixRow {
    /// The label.
    pub class: String,
    /// By prediction.
    pub cells: Vec<Cell>,
}

/// A cell of a confusion matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    /// Number of actions.
    pub count: u64,
    /// Share of the row, rounded to per cent.
    pub percent: u32,
    /// Whether label and prediction agree.
    pub correct: bool,
    /// Description of the cell.
    pub tooltip: String,
}

/// A class's metrics, formatted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClassRow {
    /// The class.
    pub class: String,
    /// Precision, per cent.
    pub precision: String,
    /// Recall, per cent.
    pub recall: String,
    /// F1, per cent.
    pub f1: String,
    /// Actions with this label.
    pub support: u64,
    /// Actions with this prediction.
    pub predicted: u64,
}

/// Formats a share in per cent with one decimal; a dash if it is not finite.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}", share * 100.0) } else { "–".to_owned() }
}

/// The tables of a task. `None` if the record's matrix does not have a row and a column per class.
pub(super) fn tables(title: &str, classes: &[String], record: &TaskRecord) -> Option<TaskTables> {
    let size = classes.len();
    let square = record.confusion.len() == size && record.confusion.iter().all(|r| r.len() == size);
    if !square {
        return None;
    }
    let matrix = ConfusionMatrix::from_rows(&record.confusion)?;
    let row = |(label, counts): (usize, &Vec<u64>)| {
        let total: u64 = counts.iter().sum();
        let cell = |(prediction, count): (usize, &u64)| {
            let share = if total == 0 { 0.0 } else { *count as f64 / total as f64 };
            Cell {
                count: *count,
                percent: (share * 100.0).round() as u32,
                correct: label == prediction,
                tooltip: format!(
                    "actual {}, predicted {}: {count} of {total}",
                    classes[label], classes[prediction]
                ),
            }
        };
        let cells = counts.iter().enumerate().map(cell).collect();
        MatrixRow { class: classes[label].clone(), cells }
    };
    let class = |(name, figures): (&String, crate::metrics::ClassMetrics)| {
        // 0/0 is shown as undefined, although it counts as 0 in means.
        let defined = |value, of: u64| percent(if of == 0 { f64::NAN } else { value });
        ClassRow {
            class: name.clone(),
            precision: defined(figures.precision, figures.predicted),
            recall: defined(figures.recall, figures.support),
            f1: defined(figures.f1, figures.support + figures.predicted),
            support: figures.support,
            predicted: figures.predicted,
        }
    };
    Some(TaskTables {
        name: record.task.clone(),
        title: title.to_owned(),
        classes: classes.to_vec(),
        rows: record.confusion.iter().enumerate().map(row).collect(),
        per_class: classes.iter().zip(matrix.per_class()).map(class).collect(),
        totals: vec![
            ("Balanced accuracy", percent(record.balanced_accuracy)),
            ("Accuracy", percent(record.accuracy)),
            ("Macro F1", percent(record.f1_macro)),
            ("Weighted F1", percent(record.f1_weighted)),
        ],
    })
}
