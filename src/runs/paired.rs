//! How the predictions of two runs for the same actions differ.

use serde::Serialize;

use super::Run;
use crate::evaluate::{Answers, Difference, PredictionTable, differences, matrices};
use crate::metrics::{ConfusionMatrix, MetricsError};
use crate::units::plural;

/// Of fewer actions no difference is called one.
const FEWEST: u64 = 5;

/// A run's metrics less those of the reference, over the actions that both predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDifference {
    /// The run's place among those that are compared.
    pub run: usize,
    /// Number of actions that both predicted with the same label.
    pub actions: usize,
    /// Of the score over the tasks below.
    pub score: Difference,
    /// The tasks that both have.
    pub tasks: Vec<TaskDifference>,
}

/// Those of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskDifference {
    /// Its name.
    pub task: String,
    /// Of the balanced accuracy.
    pub balanced_accuracy: Difference,
    /// Its classes, those first that the reference has.
    pub classes: Vec<ClassDifference>,
}

/// Those of a class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassDifference {
    /// Its name.
    pub class: String,
    /// Number of these actions that are of it.
    pub actions: u64,
    /// Recall of the reference; `None` without actions.
    pub reference: Option<f64>,
    /// Recall of the run.
    pub recall: Option<f64>,
    /// The run's less the reference's.
    pub difference: Option<Difference>,
}

/// A task that both have, with its place in either, and the classes that either has.
struct Common<'a> {
    name: &'a str,
    places: [usize; 2],
    classes: Vec<&'a str>,
}

/// A run's difference to the reference, and what there is to say about what was compared. `None` where
/// they have nothing in common.
///
/// # Errors
/// [`MetricsError`], which should not happen.
pub(super) fn difference(
    reference: (&Run, &PredictionTable),
    run: (&Run, &PredictionTable),
    place: usize,
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
        let [ours, theirs] = [0, 1].map(|which| &tables[which].tasks[task.places[which]].1);
        if ours.iter().any(|class| !theirs.contains(class)) || ours.len() != theirs.len() {
            notes.push(format!("{between} have different classes in {}", task.name));
        }
    }
    let (answers, relabelled) = common_answers(tables, &tasks);
    if relabelled > 0 {
        let actions = plural(relabelled, "action");
        notes.push(format!("{between} differ in the labels of {actions}, left out here"));
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
    let (found, score) = differences([&answers[1], &answers[0]], &classes)?;
    let Some(score) = score else { return Ok((None, notes)) };
    let labelled = before.iter().map(ConfusionMatrix::total);
    let score = of_enough(score, labelled.filter(|&actions| actions > 0).min().unwrap_or(0));
    let of_task = |(index, task): (usize, &Common)| {
        let found = found[index].as_ref()?;
        let pairs = before[index].per_class().into_iter().zip(after[index].per_class());
        let classes = task.classes.iter().zip(pairs).zip(&found.recalls);
        let classes = classes.map(|((name, (before, after)), difference)| {
            let known = before.support > 0;
            ClassDifference {
                class: (*name).to_owned(),
                actions: before.support,
                reference: known.then_some(before.recall),
                recall: known.then_some(after.recall),
                difference: difference.map(|found| of_enough(found, before.support)),
            }
        });
        Some(TaskDifference {
            task: task.name.to_owned(),
            balanced_accuracy: of_enough(found.balanced_accuracy, before[index].total()),
            classes: classes.collect(),
        })
    };
    let tasks = tasks.iter().enumerate().filter_map(of_task).collect();
    Ok((Some(RunDifference { run: place, actions, score, tasks }), notes))
}

/// That the score's difference leaves tasks out which one of the runs has alone, where there are such.
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

/// The difference, which says nothing where it is of very few actions: drawn again they are always the same.
fn of_enough(difference: Difference, actions: u64) -> Difference {
    let excludes_zero = difference.excludes_zero && actions >= FEWEST;
    Difference { excludes_zero, ..difference }
}

fn common_tasks<'a>(tables: [&'a PredictionTable; 2]) -> Vec<Common<'a>> {
    let common = |(place, (name, classes)): (usize, &'a (String, Vec<String>))| {
        let other = tables[1].tasks.iter().position(|(other, _)| other == name)?;
        let mut all: Vec<&str> = classes.iter().map(String::as_str).collect();
        for class in &tables[1].tasks[other].1 {
            if !all.contains(&class.as_str()) {
                all.push(class);
            }
        }
        Some(Common { name, places: [place, other], classes: all })
    };
    tables[0].tasks.iter().enumerate().filter_map(common).collect()
}

/// The answers of both for the actions that have the same label in some task, and the number of actions
/// whose labels differ in one.
fn common_answers(tables: [&PredictionTable; 2], tasks: &[Common]) -> ([Vec<Answers>; 2], usize) {
    let mut answers = [Vec::new(), Vec::new()];
    let mut relabelled = 0;
    for (action, ours) in &tables[0].actions {
        let Some(theirs) = tables[1].actions.get(action) else { continue };
        let mut both = [Answers::new(), Answers::new()];
        let mut differs = false;
        for task in tasks {
            let of = |which: usize, answers: &[(Option<usize>, usize)]| {
                let place = task.places[which];
                let names = &tables[which].tasks[place].1;
                let among =
                    |class: usize| task.classes.iter().position(|name| *name == names[class]);
                let (label, predicted) = answers[place];
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
