//! Checks a data set by reading all annotations and decoding all clips.

mod clips;
mod same;
mod sources;
mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::Serialize;

use super::annotations::{ANNOTATIONS, Split, View};
use super::clip::{ClipError, ClipInfo};
use super::error::DataError;
use super::problem::{Level, Problem, ProblemKind};
use super::sampling::WindowSpec;
use super::source::DataSource;
use crate::schema::Schema;
pub use clips::{FormatCount, Repeats};
pub use same::{Place, SameClip};
use sources::Sources;

/// The result of a check. It does not depend on the number of threads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The data set's root.
    #[serde(serialize_with = "crate::lossy::path")]
    pub root: PathBuf,
    /// Name of the schema.
    pub schema: String,
    /// The splits that exist, in the schema's order.
    pub splits: Vec<SplitReport>,
    /// Names of the schema's splits that the data set lacks.
    pub missing_splits: Vec<String>,
    /// Number of problems that are errors.
    pub errors: usize,
    /// Number of problems that are warnings.
    pub warnings: usize,
    /// Clips with identical bytes that occur in several kept actions, or several times in one.
    pub same_clips: Vec<SameClip>,
}

/// The result of a check of one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitReport {
    /// The split's name in the schema.
    pub name: String,
    /// The split's folder.
    #[serde(serialize_with = "crate::lossy::path")]
    pub dir: PathBuf,
    /// Number of actions in the annotations.
    pub actions: usize,
    /// Number of usable actions.
    pub kept: usize,
    /// Number of actions that are left out, by reason.
    pub left_out: IndexMap<String, usize>,
    /// Class counts per task over the kept actions; empty in a split without labels.
    pub tasks: Vec<TaskCounts>,
    /// Pairs of a number of clips and the number of kept actions that have it, ascending.
    pub views: Vec<(usize, usize)>,
    /// Number of clips by result: all, ok, short, odd, then the kinds of failures that occur. Short and
    /// odd clips also count as ok. Clips of actions that are left out are checked as well.
    pub clips: IndexMap<String, usize>,
    /// Number of actions per value that matches no class or is not listed in the schema.
    pub values: IndexMap<String, usize>,
    /// Sizes, frame rates, rotations and pixel aspect ratios of the readable clips, the most
    /// frequent first.
    pub formats: Vec<FormatCount>,
    /// The clips that have fewer frames in the window than are sampled from it; `None` if there are
    /// no such clips.
    pub repeats: Option<Repeats>,
    /// All problems: those of the annotations, of the clips of kept actions and of other clips,
    /// each in file order; then those that concern several clips.
    pub problems: Vec<Problem>,
}

impl SplitReport {
    fn new(name: String, dir: PathBuf) -> Self {
        Self {
            name,
            dir,
            actions: 0,
            kept: 0,
            left_out: IndexMap::new(),
            tasks: Vec::new(),
            views: Vec::new(),
            clips: IndexMap::new(),
            values: IndexMap::new(),
            formats: Vec::new(),
            repeats: None,
            problems: Vec::new(),
        }
    }
}

/// Class counts of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskCounts {
    /// Name of the task.
    pub task: String,
    /// Name of the task for tables.
    pub title: String,
    /// Number of actions per class, in index order.
    pub classes: IndexMap<String, usize>,
}

impl CheckReport {
    /// Returns whether anything annotated cannot be used.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Formats the report as text tables for people; programs use [`serde::Serialize`].
    pub fn render(&self) -> String {
        table::render(self)
    }
}

/// Checks all splits of a data set. `read` decodes a whole clip, given its path as annotated, and is
/// called from several threads; `progress` is called with the number of clips done and the total.
///
/// All problems are in the report.
pub fn check_dataset(
    source: &DataSource,
    window: &WindowSpec,
    read: impl Fn(&Path) -> Result<ClipInfo, ClipError> + Sync,
    progress: impl Fn(usize, usize) + Sync,
) -> CheckReport {
    let (schema, splits) = (source.schema(), source.own_splits());
    let annotated = splits.iter().enumerate().flat_map(|(index, (_, _, split))| {
        split.as_ref().map_or_else(|_| Vec::new(), |split| jobs(index, split))
    });
    let jobs: Vec<Job> = annotated.collect();
    let sources = Sources::find(&jobs);
    let done = AtomicUsize::new(0);
    let outcome = |(index, job): (usize, &Job)| {
        let outcome = read(&job.path);
        // Computed right after decoding, while the file is still in the page cache.
        let digest = sources.digest(index);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
        (outcome, digest)
    };
    // The clips of all splits are processed together, so that a small split does not leave threads
    // idle; collecting preserves the order.
    let (outcomes, digests): (Vec<_>, Vec<_>) = jobs.par_iter().enumerate().map(outcome).unzip();

    let names: Vec<String> = splits.iter().map(|(name, ..)| name.clone()).collect();
    let shown: Vec<&str> = names.iter().map(String::as_str).collect();
    let same = same::find(&sources.groups(&digests), &jobs, &shown, schema);
    let mut clips = jobs.into_iter().zip(outcomes).peekable();
    let mut reports: Vec<_> = splits
        .into_iter()
        .enumerate()
        .map(|(index, (name, place, split))| {
            let mut own = Vec::new();
            while let Some(clip) = clips.next_if(|(job, _)| job.split == index) {
                own.push(clip);
            }
            match split {
                Ok(split) => report(split, schema, window, &own),
                Err(error) => unreadable(name, place, &error),
            }
        })
        .collect();
    for (split, problem) in same.problems {
        reports[split].problems.push(problem);
    }

    let missing = schema.splits.iter().filter(|split| !names.contains(&split.name));
    let count = |level| {
        let problems = reports.iter().flat_map(|r: &SplitReport| &r.problems);
        problems.filter(|problem| problem.level == level).count()
    };
    CheckReport {
        root: source.root().to_owned(),
        schema: schema.name.clone(),
        missing_splits: missing.map(|split| split.name.clone()).collect(),
        errors: count(Level::Error),
        warnings: count(Level::Warning),
        same_clips: same.clips,
        splits: reports,
    }
}

/// One clip to read.
struct Job {
    /// Index of the clip's split among the existing splits.
    split: usize,
    action: String,
    path: PathBuf,
    /// Whether the clip's action is kept.
    used: bool,
    /// The action's labels; empty if it has none.
    labels: Vec<Option<usize>>,
}

/// Returns all clips of a split; those of left-out actions come last.
fn jobs(index: usize, split: &Split) -> Vec<Job> {
    let job = |action: &str, view: &View, labels: Option<&Vec<Option<usize>>>, used: bool| Job {
        split: index,
        action: action.to_owned(),
        path: split.clip(view),
        used,
        labels: labels.cloned().unwrap_or_default(),
    };
    let kept = split
        .actions
        .iter()
        .flat_map(|a| a.views.iter().map(move |view| job(&a.id, view, a.labels.as_ref(), true)));
    let others = split
        .left_out
        .iter()
        .flat_map(|a| a.views.iter().map(move |view| job(&a.id, view, None, false)));
    kept.chain(others).collect()
}

type Clip = (Job, Result<ClipInfo, ClipError>);

fn report(split: Split, schema: &Schema, window: &WindowSpec, clips: &[Clip]) -> SplitReport {
    let mut left_out = IndexMap::new();
    for entry in &split.left_out {
        *left_out.entry(entry.reason.clone()).or_insert(0) += 1;
    }
    let mut views = HashMap::new();
    for action in &split.actions {
        *views.entry(action.views.len()).or_insert(0) += 1;
    }
    let mut views: Vec<_> = views.into_iter().collect();
    views.sort_unstable();
    let mut values = IndexMap::new();
    for problem in &split.problems {
        if matches!(problem.kind, ProblemKind::UnknownValue | ProblemKind::UnlistedValue) {
            *values.entry(problem.message.clone()).or_insert(0) += 1;
        }
    }
    let tasks = if split.labelled { class_counts(&split, schema) } else { Vec::new() };
    let mut report = SplitReport {
        actions: split.actions.len() + split.left_out.len(),
        kept: split.actions.len(),
        left_out,
        tasks,
        views,
        values,
        problems: split.problems,
        ..SplitReport::new(split.name, split.dir)
    };
    if report.kept == 0 {
        report.problems.push(no_usable_action(&report, split.labelled));
    }
    clips::check(&mut report, window, clips);
    report
}

/// Describes the problem of a split without any usable action.
fn no_usable_action(report: &SplitReport, labelled: bool) -> Problem {
    let message = if report.actions == 0 {
        "the annotations contain no action; annotate some, or remove the split's folder".to_owned()
    } else {
        let reasons = report.left_out.iter().map(|(reason, n)| format!("{reason} ({n})"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let advice = if labelled { "; fix this, or remove the split's folder" } else { "" };
        format!("none of its {} actions can be used: {reasons}{advice}", report.actions)
    };
    let problem = Problem::of_split(ProblemKind::NoUsableAction, message);
    // A split without labels is used neither for training nor for evaluation.
    Problem { level: if labelled { problem.level } else { Level::Warning }, ..problem }
}

fn class_counts(split: &Split, schema: &Schema) -> Vec<TaskCounts> {
    let counts = |(t, task): (usize, &crate::schema::Task)| {
        let counts = split.class_counts(t, task.classes.len());
        let classes = task.class_names().into_iter().zip(counts).collect();
        TaskCounts { task: task.name.clone(), title: task.title.clone(), classes }
    };
    schema.tasks.iter().enumerate().map(counts).collect()
}

/// Returns the report of a split that cannot be read at all.
fn unreadable(name: String, place: PathBuf, error: &DataError) -> SplitReport {
    let (kind, message) = (ProblemKind::Unreadable, error.to_string());
    let problem = match error {
        DataError::Io { .. } | DataError::Json { .. } => {
            Problem::of_file(kind, place.join(ANNOTATIONS).display().to_string(), message)
        }
        // The message names the subject, such as a table or a split that cannot be made.
        _ => Problem::of_split(kind, message),
    };
    SplitReport { problems: vec![problem], ..SplitReport::new(name, place) }
}
