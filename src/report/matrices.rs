//! Confusion matrices and figures per class, ready for the page.

use super::TaskRecord;
use crate::metrics::ConfusionMatrix;

/// A task's validation figures in words.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskTables {
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
    /// Names and values of the figures over all classes.
    pub totals: Vec<(&'static str, String)>,
}

/// The answers to the actions of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixRow {
    /// The label.
    pub class: String,
    /// By prediction.
    pub cells: Vec<Cell>,
}

/// How often a class was taken for another, or for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// How often.
    pub count: u64,
    /// Of the row, in whole per cent.
    pub percent: u32,
    /// Whether label and prediction agree.
    pub right: bool,
    /// The cell in a sentence.
    pub words: String,
}

/// A class's figures as written.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRow {
    /// The class.
    pub class: String,
    /// Right of those predicted, per cent.
    pub precision: String,
    /// Right of those labelled, per cent.
    pub recall: String,
    /// Harmonic mean of both, per cent.
    pub f1: String,
    /// Actions with this label.
    pub support: u64,
    /// Actions with this prediction.
    pub predicted: u64,
}

/// Per cent with one digit; a dash for what is not a number.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}", share * 100.0) } else { "–".to_owned() }
}

/// The tables of a task. Where the record's matrix is not square with these classes, there is
/// nothing to show.
pub fn tables(title: &str, classes: &[String], record: &TaskRecord) -> Option<TaskTables> {
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
                right: label == prediction,
                words: format!(
                    "{} taken for {}: {count} of {total}",
                    classes[label], classes[prediction]
                ),
            }
        };
        let cells = counts.iter().enumerate().map(cell).collect();
        MatrixRow { class: classes[label].clone(), cells }
    };
    let class = |(name, figures): (&String, crate::metrics::ClassMetrics)| {
        // 0/0 is written as what it is, not as the 0 that it counts for in means.
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
            ("F1, plain mean", percent(record.f1_macro)),
            ("F1, by support", percent(record.f1_weighted)),
        ],
    })
}
