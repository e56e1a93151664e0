//! How the predictions of two runs for the same actions differ.

use serde::Serialize;

use super::Run;
use crate::evaluate::{Answers, Difference, PredictionTable, differences, matrices};
use crate::metrics::{ConfusionMatrix, MetricsError, mean};
use crate::units::plural;

/// Minimum number of actions for which a difference may be marked as excluding 0.
const MIN_ACTIONS: u64 = 5;

/// A run's metrics minus those of the reference, over the actions that both predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDifference {
    /// Index of the run among those that are compared.
    pub run: usize,
    /// Number of actions that both predicted with the same label.
    pub actions: usize,
    /// Difference in the score over `tasks`.
    pub score: Difference,
    /// Differences in the tasks that both have.
    pub tasks: Vec<TaskDifference>,
}

/// A run's metrics of one task minus those of the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskDifference {
    /// Name of the task.
    pub task: String,
    /// Difference in balanced accuracy.
    pub balanced_accuracy: Difference,
    /// Differences in its classes, beginning with those that the reference has.
    pub classes: Vec<ClassDifference>,
}

/// A run's recall of one class beside that of the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassDifference {
    /// Name of the class.
    pub class: String,
    /// Number of compared actions of this class.
    pub actions: u64,
    /// Recall of the reference; `None` without actions.
    pub reference: Option<f64>,
    /// Recall of the run; `None` without actions.
    pub recall: Option<f64>,
    /// The run's recall minus the reference's.
    pub difference: Option<Difference>,
}

/// Task that both runs have, with its index in either table and the classes that occur in either.
struct Common<'a> {
    name: &'a str,
    indices: [usize; 2],
    classes: Vec<&'a str>,
}

/// Returns the difference of run `index` to the reference, and notes on what was compared. The difference
/// is `None` if they have nothing in common.
///
/// # Errors
/// [`MetricsError`], which should not happen.
pub(super) fn difference(
    reference: (&Run, &PredictionTable),
    run: (&Run, &PredictionTable),
    index: usize,
) -> Result<(Option<RunDifference>, Vec<String>), MetricsError> {
    let (tables, between) =
        ([reference.1, run.1], format!("{} and {}", reference.0.name, run.0.name));
    let tasks = common_tasks(tables);
    if tasks.is_empty() {
        let names = tables.map(|table| {
            table.tasks.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        });
        let note = format!("{between} have no task in common ({}; {})", names[0], names[1]);
        return Ok((None, vec![note]));
    }
    let mut notes = Vec::new();
    notes.extend(one_sided(&between, [reference.0, run.0], tables, &tasks));
    for task in &tasks {
        let [ours, theirs] = [0, 1].map(|which| &tables[which].tasks[task.indices[which]].1);
        if ours.iter().any(|class| !theirs.contains(class)) || ours.len() != theirs.len() {
            notes.push(format!("{between} have different classes in {}", task.name));
        }
    }
    let (answers, relabelled) = common_answers(tables, &tasks);
    if relabelled > 0 {
        let actions = plural(relabelled, "action");
        notes.push(format!("{between} differ in the labels of {actions}, which are left out here"));
    }
    let [ours, theirs] = tables.map(|table| table.actions.len());
    let actions = answers[0].len();
    if [ours, theirs] != [actions; 2] {
        notes.push(format!(
            "{between} have {} in common, of {ours} and {theirs}",
            plural(actions, "action")
        ));
    }
    let classes: Vec<usize> = tasks.iter().map(|task| task.classes.len()).collect();
    let [before, after] = [matrices(&answers[0], &classes)?, matrices(&answers[1], &classes)?];
    let (of_tasks, score) = differences([&answers[1], &answers[0]], &classes)?;
    let Some(score) = score else { return Ok((None, notes)) };
    let labelled = before.iter().map(ConfusionMatrix::total);
    let score = marked_if_enough(score, labelled.filter(|&actions| actions > 0).min().unwrap_or(0));
    let of_task = |(number, task): (usize, &Common)| {
        let of_task = of_tasks[number].as_ref()?;
        let pairs = before[number].per_class().into_iter().zip(after[number].per_class());
        let classes = task.classes.iter().zip(pairs).zip(&of_task.recalls);
        let classes = classes.map(|((name, (before, after)), difference)| {
            let known = before.support > 0;
            ClassDifference {
                class: (*name).to_owned(),
                actions: before.support,
                reference: known.then_some(before.recall),
                recall: known.then_some(after.recall),
                difference: difference.map(|value| marked_if_enough(value, before.support)),
            }
        });
        Some(TaskDifference {
            task: task.name.to_owned(),
            balanced_accuracy: marked_if_enough(of_task.balanced_accuracy, before[number].total()),
            classes: classes.collect(),
        })
    };
    let tasks = tasks.iter().enumerate().filter_map(of_task).collect();
    Ok((Some(RunDifference { run: index, actions, score, tasks }), notes))
}

/// Returns the score of the second run minus that of the first, over the tasks and actions that both have;
/// `None` without any.
///
/// # Errors
/// [`MetricsError`], which should not happen.
pub(super) fn score_difference(tables: [&PredictionTable; 2]) -> Result<Option<f64>, MetricsError> {
    let tasks = common_tasks(tables);
    let (answers, _) = common_answers(tables, &tasks);
    let classes: Vec<usize> = tasks.iter().map(|task| task.classes.len()).collect();
    let [before, after] = [matrices(&answers[0], &classes)?, matrices(&answers[1], &classes)?];
    // Both have the same labels.
    let labelled = before.iter().zip(&after).filter(|(before, _)| before.total() > 0);
    let of_tasks = labelled
        .map(|(before, after)| after.balanced_accuracy() - before.balanced_accuracy())
        .collect::<Vec<f64>>();
    Ok((!of_tasks.is_empty()).then(|| mean(of_tasks.into_iter())))
}

/// Returns a note if the difference in score leaves out tasks that only one of the runs has.
fn one_sided(
    between: &str,
    runs: [&Run; 2],
    tables: [&PredictionTable; 2],
    common: &[Common],
) -> Option<String> {
    let more = [0, 1].map(|which| {
        let names = tables[which].tasks.iter().map(|(name, _)| name.as_str());
        names.filter(|name| common.iter().all(|task| task.name != *name)).collect::<Vec<_>>()
    });
    let has = runs.iter().zip(&more).filter(|(_, names)| !names.is_empty());
    let has = has.map(|(run, names)| format!("{} also has {}", run.name, names.join(", ")));
    let has: Vec<String> = has.collect();
    let common: Vec<&str> = common.iter().map(|task| task.name).collect();
    let over = common.join(", ");
    (!has.is_empty()).then(|| {
        format!("{between}: the difference in score is over {over} only; {}", has.join(", and "))
    })
}

/// Returns the difference, which is not marked as excluding 0 if it is based on very few actions: bootstrap
/// samples of them are too often the same.
fn marked_if_enough(difference: Difference, actions: u64) -> Difference {
    let excludes_zero = difference.excludes_zero && actions >= MIN_ACTIONS;
    Difference { excludes_zero, ..difference }
}

fn common_tasks<'a>(tables: [&'a PredictionTable; 2]) -> Vec<Common<'a>> {
    let common = |(index, (name, classes)): (usize, &'a (String, Vec<String>))| {
        let other = tables[1].tasks.iter().position(|(other, _)| other == name)?;
        let mut all: Vec<&str> = classes.iter().map(String::as_str).collect();
        for class in &tables[1].tasks[other].1 {
            if !all.contains(&class.as_str()) {
                all.push(class);
            }
        }
        Some(Common { name, indices: [index, other], classes: all })
    };
    tables[0].tasks.iter().enumerate().filter_map(common).collect()
}

/// Returns the answers of both for the actions that have the same label in some task, and the number of
/// actions whose labels differ in one.
fn common_answers(tables: [&PredictionTable; 2], tasks: &[Common]) -> ([Vec<Answers>; 2], usize) {
    let mut answers = [Vec::new(), Vec::new()];
    let mut relabelled = 0;
    for (action, ours) in &tables[0].actions {
        let Some(theirs) = tables[1].actions.get(action) else { continue };
        let mut both = [Answers::new(), Answers::new()];
        let mut differs = false;
        for task in tasks {
            let of = |which: usize, answers: &[(Option<usize>, usize)]| {
                let index = task.indices[which];
                let names = &tables[which].tasks[index].1;
                let among =
                    |class: usize| task.classes.iter().position(|name| *name == names[class]);
                let (label, predicted) = answers[index];
                Some((among(label?)?, among(predicted)?))
            };
            let pair = of(0, ours).zip(of(1, theirs));
            differs |= pair.is_some_and(|(ours, theirs)| ours.0 != theirs.0);
            let same = pair.filter(|(ours, theirs)| ours.0 == theirs.0);
            both[0].push(same.map(|pair| pair.0));
            both[1].push(same.map(|pair| pair.1));
        }
        relabelled += usize::from(differs);
        if both[0].iter().any(Option::is_some) {
            let [ours, theirs] = both;
            answers[0].push(ours);
            answers[1].push(theirs);
        }
    }
    (answers, relabelled)
}
