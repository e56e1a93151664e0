//! Comparison of runs side by side.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Serialize;

use super::options::{DifferingOption, differing};
use super::paired::{ClassDifference, RunDifference, difference};
use super::repeats::{Repeats, repeats};
use super::{Run, RunsError};
use crate::evaluate::{Interval, PredictionTable, intervals};
use crate::metrics::MetricsError;

/// Comparison of runs, the first of which is the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunTable {
    /// Results of each run.
    pub runs: Vec<RunSummary>,
    /// Runs grouped by their options, with means over seeds and folds; empty if none is repeated.
    pub repeats: Vec<Repeats>,
    /// Options in which the runs differ.
    pub options: Vec<DifferingOption>,
    /// Differences to the reference, for the runs that can be compared with it.
    pub differences: Vec<RunDifference>,
    /// What is missing, and why.
    pub notes: Vec<String>,
}

/// Results of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Name of the run.
    pub name: String,
    /// Folder of the run.
    #[serde(serialize_with = "crate::lossy::path")]
    pub path: PathBuf,
    /// Number of finished epochs.
    pub epochs: usize,
    /// Epoch of the best weights, counted from 1, to which the following figures belong; `None` before one
    /// is finished.
    pub best_epoch: Option<usize>,
    /// Validation score.
    pub score: Option<f64>,
    /// 95 % confidence interval of the score; `None` without predictions.
    pub score_interval: Option<Interval>,
    /// Mean validation loss per action, all tasks weighted.
    pub valid_loss: Option<f64>,
    /// Results of the tasks with labels.
    pub tasks: Vec<TaskSummary>,
}

/// Result of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskSummary {
    /// Name of the task.
    pub task: String,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: f64,
    /// 95 % confidence interval of the balanced accuracy; `None` without predictions.
    pub interval: Option<Interval>,
}

impl RunTable {
    /// Compares runs, the first of which is the reference.
    ///
    /// # Errors
    /// [`RunsError::TooFew`] for fewer than two.
    pub fn new(runs: &[Run]) -> Result<Self, RunsError> {
        let [reference, others @ ..] = runs else { return Err(RunsError::TooFew { found: 0 }) };
        if others.is_empty() {
            return Err(RunsError::TooFew { found: 1 });
        }
        let without = |run: &Run| Some(format!("{}: {}", run.name, run.without.as_ref()?));
        let mut notes: Vec<String> = runs.iter().filter_map(without).collect();
        let mut pairs = Vec::new();
        match &reference.predictions {
            Some(table) => {
                for (index, run) in (1..).zip(others) {
                    let Some(other) = &run.predictions else { continue };
                    let compared = difference((reference, table), (run, other), index);
                    let (pair, more) = compared.expect(CLASSES);
                    pairs.extend(pair);
                    notes.extend(more);
                }
            }
            None => notes.push(format!(
                "{}: as the reference has no predictions, no differences can be given",
                reference.name
            )),
        }
        let summaries: Vec<RunSummary> =
            runs.iter().map(|run| RunSummary::new(run).expect(CLASSES)).collect();
        let options = differing(runs);
        let repeats = repeats(runs, &summaries, &options).expect(CLASSES);
        Ok(Self { runs: summaries, repeats, options, differences: pairs, notes })
    }

    /// Returns the names of all tasks, in the order in which the runs have them.
    pub fn tasks(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for task in self.runs.iter().flat_map(|run| &run.tasks) {
            if !names.contains(&task.task.as_str()) {
                names.push(&task.task);
            }
        }
        names
    }

    /// Returns the classes of a task, each with the runs whose recall is compared and their differences.
    pub fn classes(&self, task: &str) -> Vec<(&str, Vec<(usize, &ClassDifference)>)> {
        let mut classes: IndexMap<&str, Vec<_>> = IndexMap::new();
        for pair in &self.differences {
            let tasks = pair.tasks.iter().filter(|difference| difference.task == task);
            for class in tasks.flat_map(|difference| &difference.classes) {
                classes.entry(&class.class).or_default().push((pair.run, class));
            }
        }
        classes.into_iter().collect()
    }
}

/// Why computing metrics of a table of predictions cannot fail.
const CLASSES: &str = "a table has only classes of its tasks";

impl RunSummary {
    fn new(run: &Run) -> Result<Self, MetricsError> {
        let best = run.best();
        let of = |table: &PredictionTable| intervals(&table.answers(), &table.classes());
        let (of_tasks, score_interval) = match &run.predictions {
            Some(table) => of(table)?,
            None => (Vec::new(), None),
        };
        let records = best.map_or(&[][..], |record| &record.valid.tasks);
        let tasks = records.iter().enumerate().filter(|(_, task)| task.has_labels());
        let tasks = tasks.map(|(index, task)| TaskSummary {
            task: task.task.clone(),
            balanced_accuracy: task.balanced_accuracy,
            interval: of_tasks.get(index).copied().flatten().map(|all| all.balanced_accuracy),
        });
        Ok(Self {
            name: run.name.clone(),
            path: run.path.clone(),
            epochs: run.history.len(),
            best_epoch: best.map(|record| record.epoch),
            score: best.map(|record| record.score),
            score_interval,
            valid_loss: best.map(|record| record.valid.loss),
            tasks: tasks.collect(),
        })
    }
}
