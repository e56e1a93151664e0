//! The HTML report of a run: curves, confusion matrices, class balance, configuration, examples. The
//! file is self-contained; it needs neither a network connection nor scripts.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::caption::Caption;
use super::charts::ChartError;
use super::curves::curves;
use super::figure::Figure;
use super::matrices::{TaskTables, percent, tables, with_unit};
use super::{EpochRecord, RunSummary, best_epoch};
use crate::evaluate::{TaskCalibration, Thresholds};
use crate::schema::{Schema, Task};
use crate::units::plural;

/// Why the report cannot be rendered, which should not happen.
#[derive(Debug, thiserror::Error)]
pub enum HtmlError {
    /// A chart cannot be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// The template cannot be rendered.
    #[error("the report cannot be written: {0}")]
    Template(#[from] askama::Error),
}

/// Status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// The run is in progress.
    Running,
    /// All epochs are done.
    Finished,
    /// Early stopping ended the run.
    StoppedEarly,
    /// The user interrupted the run.
    Interrupted,
}

impl RunStatus {
    /// Returns the name of the status on pages.
    fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::StoppedEarly => "stopped early",
            Self::Interrupted => "interrupted",
        }
    }
}

/// An example of a prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The action, its label and the prediction.
    pub caption: Caption,
    /// Strips of frames, shown one below the other.
    pub strips: Vec<Strip>,
}

/// Frames shown side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Description of the frames; may be empty.
    pub title: Caption,
    /// The frames in order, each a PNG, JPEG or GIF file.
    pub frames: Vec<Vec<u8>>,
}

/// The data of a report.
#[derive(Debug, Clone, Copy)]
pub struct ReportData<'a> {
    /// Heading, such as the name of the run's folder.
    pub title: &'a str,
    /// Status of the run.
    pub state: RunStatus,
    /// Number of epochs planned.
    pub epochs: usize,
    /// Description of the device.
    pub device: &'a str,
    /// The data set's tasks and properties.
    pub schema: &'a Schema,
    /// The finished epochs, in order.
    pub history: &'a [EpochRecord],
    /// The summary at the start.
    pub summary: &'a RunSummary,
    /// Every option and its value.
    pub configuration: &'a [(String, String)],
    /// The most confident correct predictions.
    pub best: &'a [Example],
    /// The most confident wrong predictions.
    pub worst: &'a [Example],
    /// The section of an earlier page with examples, shown instead of `best` and `worst`.
    pub earlier_examples: Option<&'a str>,
}

/// Returns the section of a page that contains its example predictions.
pub(crate) fn examples_of(page: &str) -> Option<&str> {
    const END: &str = "</section>";
    let section = &page[page.find("<section id=\"examples\">")?..];
    Some(&section[..section.find(END)? + END.len()])
}

/// Renders the page.
///
/// # Errors
/// [`HtmlError`].
pub fn render(data: &ReportData) -> Result<String, HtmlError> {
    let curves = curves(data.history, &data.schema.tasks);
    let curves = curves.into_iter().map(Figure::new).collect::<Result<_, _>>()?;
    // If no epoch is the best (no score is a number), the last one is shown.
    let shown = best_epoch(data.history).or(data.history.last());
    let page = Page {
        title: data.title,
        dataset: &data.schema.title,
        state: data.state.label(),
        running: data.state == RunStatus::Running,
        done: data.history.last().map_or(0, |record| record.epoch),
        epochs: data.epochs,
        device: data.device,
        facts: facts(data, shown),
        curves,
        shown: shown
            .map(|record| (record.epoch, if record.best { "the best" } else { "the last" })),
        tasks: shown.map(|record| task_tables(data.schema, record)).unwrap_or_default(),
        auxiliary: shown.map(|record| auxiliary(data.schema, record)).unwrap_or_default(),
        classes: data.schema.tasks.iter().map(|task| class_table(data.summary, task)).collect(),
        splits: data.summary.splits.iter().map(|split| split.split.as_str()).collect(),
        advice: &data.summary.advice,
        examples: [
            ("best", "Most confident correct", data.best),
            ("worst", "Most confident wrong", data.worst),
        ]
        .into_iter()
        .filter(|(_, _, examples)| !examples.is_empty())
        .map(|(id, title, examples)| ExamplesView {
            id,
            title,
            examples: examples.iter().map(ExampleView::new).collect(),
        })
        .collect(),
        earlier_examples: data.earlier_examples,
        task_titles: data.schema.tasks.iter().map(|task| task.title.as_str()).collect(),
        epoch_rows: data.history.iter().map(|record| EpochRow::new(record, shown)).collect(),
        settings: &data.summary.settings,
        configuration: data.configuration,
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: &'a str,
    dataset: &'a str,
    state: &'static str,
    running: bool,
    done: usize,
    epochs: usize,
    device: &'a str,
    facts: Vec<Fact>,
    curves: Vec<Figure>,
    shown: Option<(usize, &'static str)>,
    tasks: Vec<TaskTables>,
    auxiliary: Vec<(String, String, String)>,
    classes: Vec<ClassTable>,
    splits: Vec<&'a str>,
    advice: &'a [String],
    examples: Vec<ExamplesView<'a>>,
    earlier_examples: Option<&'a str>,
    task_titles: Vec<&'a str>,
    epoch_rows: Vec<EpochRow>,
    settings: &'a [(String, String)],
    configuration: &'a [(String, String)],
}

/// A key figure of the run.
struct Fact {
    name: String,
    value: String,
    unit: &'static str,
    note: String,
}

fn facts(data: &ReportData, shown: Option<&EpochRecord>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String, unit, note: String| {
        facts.push(Fact { name: name.to_owned(), value, unit, note });
    };
    if let Some(record) = shown {
        fact(
            if record.best { "Best score" } else { "Last score" },
            percent(record.score),
            "%",
            format!("epoch {}", record.epoch),
        );
        for (task, figures) in data.schema.tasks.iter().zip(&record.valid.tasks) {
            let balanced = percent(figures.shown(|figures| figures.balanced_accuracy));
            let (unit, note) = match figures.labelled() {
                Some(figures) => ("%", format!("accuracy {} %", percent(figures.accuracy))),
                None => ("", "no labelled actions".to_owned()),
            };
            fact(&task.title, balanced, unit, note);
        }
    }
    if let Some(last) = data.history.last() {
        let seconds: f64 = data.history.iter().map(EpochRecord::seconds).sum();
        let each = duration(seconds / data.history.len() as f64);
        let old = data.history.iter().filter(|record| record.wall_seconds.is_none()).count();
        // Older versions did not record the time between the passes.
        let passes = match old {
            0 => String::new(),
            old => format!("; for {}, the passes only", plural(old, "epoch")),
        };
        fact("Time", duration(seconds), "", format!("{each} per epoch{passes}"));
        let clips = last.train.clips_per_second();
        fact("Training", format!("{clips:.1}"), "clips/s", "last epoch".to_owned());
    }
    facts
}

/// Formats seconds.
fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) if seconds < 9.95 => format!("{seconds:.1} s"),
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes} min {rest:02} s"),
        _ => format!("{hours} h {minutes:02} min"),
    }
}

fn task_tables(schema: &Schema, record: &EpochRecord) -> Vec<TaskTables> {
    let calibration = |task: usize| record.calibration.as_ref()?.tasks.get(task);
    let pairs = schema.tasks.iter().zip(&record.valid.tasks).enumerate();
    let tables = pairs.filter_map(|(index, (task, figures))| {
        let mut tables = tables(&task.title, &task.class_names(), figures)?;
        if let Some(TaskCalibration { ece_before, ece_after, actions, .. }) = calibration(index) {
            let error = |ece: f64| with_unit(if *actions == 0 { f64::NAN } else { ece });
            tables.totals.push(("Calibration error", error(*ece_before)));
            tables.totals.push(("after calibration", error(*ece_after)));
        }
        let thresholds = calibration(index).and_then(|task| task.thresholds.as_ref());
        if let Some(Thresholds { after, .. }) = thresholds {
            let name = "Balanced accuracy with class thresholds, cross-validated";
            tables.totals.push((name, with_unit(*after)));
        }
        Some(tables)
    });
    tables.collect()
}

/// Returns title, balanced accuracy and accuracy of each auxiliary head.
fn auxiliary(schema: &Schema, record: &EpochRecord) -> Vec<(String, String, String)> {
    let row = |figures: &super::TaskRecord| {
        let known = schema.properties.iter().find(|property| property.name == figures.task);
        let title = known.map_or(&figures.task, |property| &property.title);
        let [balanced, accuracy] = [figures.balanced_accuracy, figures.accuracy]
            .map(|metric| percent(figures.shown(|_| metric)));
        (title.clone(), balanced, accuracy)
    };
    record.valid.auxiliary.iter().map(row).collect()
}

/// Class counts of a task, with weights and draws if they are balanced.
struct ClassTable {
    task: String,
    balanced: bool,
    rows: Vec<ClassCounts>,
}

struct ClassCounts {
    class: String,
    /// Number of actions in each split.
    counts: Vec<usize>,
    /// Count in the first split relative to the most frequent class, per cent.
    bar: usize,
    weight: String,
    draws: String,
}

fn class_table(summary: &RunSummary, task: &Task) -> ClassTable {
    let counts_of = |split: &super::SplitSummary| {
        let found = split.classes.iter().find(|(name, _)| *name == task.name);
        found.map(|(_, counts)| counts.iter().map(|(_, n)| *n).collect()).unwrap_or_default()
    };
    let splits: Vec<Vec<usize>> = summary.splits.iter().map(counts_of).collect();
    let balance = summary.balance.iter().find(|balance| balance.task == task.title);
    let first = splits.first();
    let most = first.and_then(|counts| counts.iter().max()).copied().unwrap_or(0).max(1);
    let row = |(index, class): (usize, &crate::schema::Class)| {
        let count = |counts: &Vec<usize>| counts.get(index).copied().unwrap_or(0);
        let balance = balance.and_then(|balance| balance.classes.get(index));
        ClassCounts {
            class: class.name.clone(),
            counts: splits.iter().map(count).collect(),
            bar: first.map_or(0, count) * 100 / most,
            weight: balance.map_or_else(String::new, |(_, _, weight, _)| format!("{weight:.2}")),
            draws: balance.map_or_else(String::new, |(_, _, _, draws)| draws.to_string()),
        }
    };
    ClassTable {
        task: task.title.clone(),
        balanced: balance.is_some(),
        rows: task.classes.iter().enumerate().map(row).collect(),
    }
}

struct EpochRow {
    epoch: usize,
    phase: usize,
    shown: bool,
    losses: [String; 2],
    balanced: Vec<String>,
    score: String,
    time: String,
    wait: String,
}

impl EpochRow {
    fn new(record: &EpochRecord, shown: Option<&EpochRecord>) -> Self {
        let loss =
            |loss: f64| if loss.is_finite() { format!("{loss:.4}") } else { "–".to_owned() };
        let tasks = record.valid.tasks.iter();
        Self {
            epoch: record.epoch,
            phase: record.phase,
            shown: shown.is_some_and(|shown| shown.epoch == record.epoch),
            losses: [loss(record.train.loss), loss(record.valid.loss)],
            balanced: tasks.map(|task| percent(task.shown(|t| t.balanced_accuracy))).collect(),
            score: percent(record.score),
            time: duration(record.seconds()),
            wait: percent(record.train.data_wait),
        }
    }
}

struct ExamplesView<'a> {
    id: &'static str,
    title: &'static str,
    examples: Vec<ExampleView<'a>>,
}

struct ExampleView<'a> {
    caption: &'a Caption,
    strips: Vec<StripView<'a>>,
}

struct StripView<'a> {
    title: &'a Caption,
    /// `data:` URIs; `None` for an unknown image format.
    frames: Vec<Option<String>>,
}

impl<'a> ExampleView<'a> {
    fn new(example: &'a Example) -> Self {
        let strip = |strip: &'a Strip| {
            let frames = strip.frames.iter().map(|bytes| data_uri(bytes)).collect();
            StripView { title: &strip.title, frames }
        };
        Self { caption: &example.caption, strips: example.strips.iter().map(strip).collect() }
    }
}

/// Encodes an image as a `data:` URI; its format is detected from the first bytes.
fn data_uri(bytes: &[u8]) -> Option<String> {
    let kind = match bytes {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        [b'G', b'I', b'F', b'8', ..] => "gif",
        _ => return None,
    };
    Some(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}
