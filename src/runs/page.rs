//! The page that compares several runs: self-contained, without scripts, in the style of a run's report.

use askama::Template;

use super::curves::{colour, curves, drawn};
use super::{ClassDifference, DifferingOption, Repeats, Run, RunTable};
use crate::evaluate::{Difference, Interval};
use crate::metrics::Estimate;
use crate::report::caption::unturned;
use crate::report::figure::Figure;
use crate::report::html::HtmlError;
use crate::report::matrices::percent;

/// Renders the page of these runs, whose comparison is `table`.
///
/// # Errors
/// [`HtmlError`].
pub fn page(runs: &[Run], table: &RunTable) -> Result<String, HtmlError> {
    let drawn = drawn(runs);
    let tasks = table.tasks();
    let key = |run: usize| Name { name: &runs[run].name, colour: colour(&drawn, run) };
    let names: Vec<Name> = (0..runs.len()).map(key).collect();
    let page = Page {
        names: &names,
        rows: names.iter().zip(&table.runs).map(|(name, run)| run_row(name, run, &tasks)).collect(),
        curves: curves(runs, &drawn, &tasks)
            .into_iter()
            .map(Figure::new)
            .collect::<Result<_, _>>()?,
        drawn: drawn.len(),
        differences: table
            .differences
            .iter()
            .map(|pair| DifferenceRow {
                name: &names[pair.run],
                actions: pair.actions,
                cells: std::iter::once(Some(pair.score))
                    .chain(tasks.iter().map(|task| {
                        let of_task = pair.tasks.iter().find(|of_task| of_task.task == *task);
                        of_task.map(|of_task| of_task.balanced_accuracy)
                    }))
                    .map(|difference| difference.map(Cell::of_difference))
                    .collect(),
            })
            .collect(),
        means: table.repeats.iter().map(|group| mean_row(group, &tasks)).collect(),
        classes: tasks.iter().filter_map(|task| class_table(task, table, &names)).collect(),
        by_option: table.options.len() >= runs.len(),
        options: &table.options,
        notes: table.notes.iter().map(|note| unturned(note)).collect(),
        tasks,
    };
    Ok(page.render()?)
}

/// Returns whether a file that begins like this is such a page, unlike a run's report and an exported page.
pub(crate) fn is_page(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    head.starts_with("<!doctype html>") && head.contains(" runs compared</title>")
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    names: &'a [Name<'a>],
    tasks: Vec<&'a str>,
    rows: Vec<RunRow<'a>>,
    curves: Vec<Figure>,
    /// Number of runs in the curves.
    drawn: usize,
    /// Means over seeds and folds.
    means: Vec<MeanRow<'a>>,
    differences: Vec<DifferenceRow<'a>>,
    classes: Vec<ClassTable<'a>>,
    /// Whether each option has a row, rather than each run.
    by_option: bool,
    options: &'a [DifferingOption],
    notes: Vec<String>,
}

/// A run's name with the colour of its curves.
struct Name<'a> {
    name: &'a str,
    colour: Option<usize>,
}

/// A number with the interval below it.
struct Cell {
    value: String,
    interval: String,
    /// Whether the interval excludes 0.
    marked: bool,
}

impl Cell {
    fn new(value: f64, interval: Option<Interval>) -> Self {
        let range = |i: Interval| format!("{} to {}", percent(i.low), percent(i.high));
        let interval = interval.map_or_else(String::new, range);
        Self { value: percent(value), interval, marked: false }
    }

    /// Creates a cell of a mean, formatted by `form`, with its standard error below it.
    fn of_mean(estimate: &Estimate, form: impl Fn(f64) -> String) -> Self {
        let error = |error: f64| format!("± {:.1}", error * 100.0);
        let interval = estimate.error.map_or_else(String::new, error);
        Self { value: form(estimate.mean), interval, marked: false }
    }

    /// Creates a cell of a difference, in percentage points.
    fn of_difference(difference: Difference) -> Self {
        let Difference { value, interval: Interval { low, high }, excludes_zero } = difference;
        let [low, high] = [low, high].map(|value| signed(value * 100.0, 1));
        let (value, interval) = (signed(value * 100.0, 1), format!("{low} to {high}"));
        Self { value, interval, marked: excludes_zero }
    }
}

/// Formats a number with its sign, 0 without one.
pub(crate) fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    match text.bytes().any(|digit| matches!(digit, b'1'..=b'9')) {
        true if value < 0.0 => format!("−{text}"),
        true => format!("+{text}"),
        false => text,
    }
}

struct RunRow<'a> {
    name: &'a Name<'a>,
    epochs: usize,
    best: String,
    score: Option<Cell>,
    /// Cells of the tasks of all runs.
    tasks: Vec<Option<Cell>>,
    loss: String,
}

fn run_row<'a>(name: &'a Name<'a>, run: &super::RunSummary, tasks: &[&str]) -> RunRow<'a> {
    let dash = || "–".to_owned();
    let task = |name: &&str| {
        let summary = run.tasks.iter().find(|summary| summary.task == *name)?;
        Some(Cell::new(summary.balanced_accuracy, summary.interval))
    };
    RunRow {
        name,
        epochs: run.epochs,
        best: run.best_epoch.map_or_else(dash, |epoch| epoch.to_string()),
        score: run.score.map(|score| Cell::new(score, run.score_interval)),
        tasks: tasks.iter().map(task).collect(),
        loss: run.valid_loss.map_or_else(dash, |loss| format!("{loss:.4}")),
    }
}

struct MeanRow<'a> {
    name: &'a str,
    runs: String,
    /// Means of the score and of each task, and the difference in score to the reference.
    cells: Vec<Option<Cell>>,
}

fn mean_row<'a>(group: &'a Repeats, tasks: &[&str]) -> MeanRow<'a> {
    let task = |task: &&str| Some(Cell::of_mean(group.tasks.get(*task)?, percent));
    let score = group.score.map(|score| Cell::of_mean(&score, percent));
    let points = |value| signed(value * 100.0, 1);
    let difference = group.difference.map(|difference| {
        let mut cell = Cell::of_mean(&difference, points);
        let comma = if cell.interval.is_empty() { "" } else { ", " };
        cell.interval.push_str(&format!("{comma}n = {}", difference.n));
        cell
    });
    let cells = [score].into_iter().chain(tasks.iter().map(task)).chain([difference]).collect();
    MeanRow { name: &group.name, runs: group.counted(), cells }
}

struct DifferenceRow<'a> {
    name: &'a Name<'a>,
    actions: usize,
    /// Differences of the score and of each task.
    cells: Vec<Option<Cell>>,
}

/// Recalls of a task's classes, each class with a row per run.
struct ClassTable<'a> {
    task: &'a str,
    groups: Vec<(&'a str, Vec<ClassRow<'a>>)>,
}

struct ClassRow<'a> {
    name: &'a Name<'a>,
    actions: u64,
    /// Recall of the reference and of the run.
    recalls: [String; 2],
    difference: Option<Cell>,
}

fn class_table<'a>(
    task: &'a str,
    table: &'a RunTable,
    names: &'a [Name<'a>],
) -> Option<ClassTable<'a>> {
    let groups = table.classes(task).into_iter().map(|(class, rows)| {
        let row = |(run, of_class): (usize, &ClassDifference)| ClassRow {
            name: &names[run],
            actions: of_class.actions,
            recalls: [of_class.reference, of_class.recall]
                .map(|recall| recall.map_or_else(|| "–".to_owned(), percent)),
            difference: of_class.difference.map(Cell::of_difference),
        };
        (class, rows.into_iter().map(row).collect())
    });
    let groups: Vec<_> = groups.collect();
    (!groups.is_empty()).then_some(ClassTable { task, groups })
}
