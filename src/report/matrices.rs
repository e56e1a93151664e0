//! Confusion matrices and metrics per class, formatted for the report.

use super::TaskRecord;
use super::caption::isolated;
use crate::metrics::{ConfusionMatrix, METRICS, MOST_CONFUSIONS, MOST_IN_MATRIX, confusions};

/// Shares of a row, in per cent, from which the shades of `templates/report.css` need white figures.
const DARK_RIGHT: u32 = 85;
const DARK_WRONG: u32 = 99;

/// A task's validation metrics, formatted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskTables {
    /// The task's name.
    pub name: String,
    /// The task's title.
    pub title: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Rows of the confusion matrix, one per label; empty if there are too many classes.
    pub rows: Vec<MatrixRow>,
    /// Number of digits of the matrix's largest count.
    pub digits: usize,
    /// Label, prediction and number of actions of the most frequent confusions, shown instead of a matrix
    /// with too many classes.
    pub confusions: Vec<(String, String, u64)>,
    /// One row per class.
    pub per_class: Vec<ClassRow>,
    /// Names and values of the metrics over all classes.
    pub totals: Vec<(&'static str, String)>,
}

impl TaskTables {
    /// Maximum number of classes for which a matrix has room beside another table.
    pub(super) const MOST_BESIDE: usize = 10;
}

/// The predictions for the actions of one class.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MatrixRow {
    /// The label.
    pub class: String,
    /// One cell per prediction.
    pub cells: Vec<Cell>,
}

/// A cell of a confusion matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    /// Number of actions.
    pub count: u64,
    /// Share of the row, rounded to whole per cent.
    pub percent: u32,
    /// Whether label and prediction agree.
    pub correct: bool,
    /// Whether the cell's shade on a light page is too dark for black text.
    pub dark: bool,
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
    /// Number of actions with this label.
    pub support: u64,
    /// Number of actions with this prediction.
    pub predicted: u64,
}

/// Formats a share in per cent with one decimal; a dash if it is not finite.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}", share * 100.0) } else { "–".to_owned() }
}

/// Formats a share in per cent with its unit; a dash if it is not finite.
pub(super) fn with_unit(share: f64) -> String {
    if share.is_finite() { format!("{} %", percent(share)) } else { percent(share) }
}

/// Formats the tables of a task. `None` if the record's matrix does not have a row and a column per class.
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
            let percent = (share * 100.0).round() as u32;
            let correct = label == prediction;
            Cell {
                count: *count,
                percent,
                correct,
                dark: percent >= if correct { DARK_RIGHT } else { DARK_WRONG },
                tooltip: format!(
                    "actual {}, predicted {}: {count} of {total}",
                    isolated(&classes[label]),
                    isolated(&classes[prediction])
                ),
            }
        };
        let cells = counts.iter().enumerate().map(cell).collect();
        MatrixRow { class: classes[label].clone(), cells }
    };
    let shown = size <= MOST_IN_MATRIX;
    let named = |([label, prediction], count): ([usize; 2], u64)| {
        (classes[label].clone(), classes[prediction].clone(), count)
    };
    let class = |(name, figures): (&String, crate::metrics::ClassMetrics)| {
        let shown = |share: Option<f64>| percent(share.unwrap_or(f64::NAN));
        let [precision, recall, f1] = figures.defined().map(shown);
        ClassRow {
            class: name.clone(),
            precision,
            recall,
            f1,
            support: figures.support,
            predicted: figures.predicted,
        }
    };
    let totals = record.metrics().unwrap_or([f64::NAN; METRICS.len()]).map(with_unit);
    Some(TaskTables {
        name: record.task.clone(),
        title: title.to_owned(),
        classes: classes.to_vec(),
        rows: match shown {
            true => record.confusion.iter().enumerate().map(row).collect(),
            false => Vec::new(),
        },
        digits: record.confusion.iter().flatten().max().map_or(1, |most| most.to_string().len()),
        confusions: match shown {
            true => Vec::new(),
            false => {
                confusions(&record.confusion, MOST_CONFUSIONS).into_iter().map(named).collect()
            }
        },
        per_class: classes.iter().zip(matrix.per_class()).map(class).collect(),
        totals: METRICS.iter().map(|metric| metric.title).zip(totals).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_classes_are_shown_by_their_confusions() {
        let record = |classes: usize| {
            let mut confusion = vec![vec![0; classes]; classes];
            (confusion[0][0], confusion[1][2], confusion[2][1], confusion[3][0]) = (9, 4, 7, 4);
            let matrix = ConfusionMatrix::from_rows(&confusion).unwrap();
            let names: Vec<String> = (0..classes).map(|class| format!("class {class}")).collect();
            tables("Task", &names, &TaskRecord::new("task", 1.0, &matrix)).unwrap()
        };
        let few = record(MOST_IN_MATRIX);
        assert_eq!((few.rows.len(), few.confusions.len()), (MOST_IN_MATRIX, 0));
        let many = record(MOST_IN_MATRIX + 1);
        let found: Vec<(&str, &str, u64)> =
            many.confusions.iter().map(|(from, to, count)| (&**from, &**to, *count)).collect();
        let expected =
            [("class 2", "class 1", 7), ("class 1", "class 2", 4), ("class 3", "class 0", 4)];
        assert_eq!((many.rows.len(), &found[..]), (0, &expected[..]));
        assert_eq!(many.per_class.len(), MOST_IN_MATRIX + 1);
    }
}
