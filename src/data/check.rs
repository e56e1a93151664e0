//! Checks a data set by reading every annotation and decoding every clip.

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
    /// The splits of the schema that do not exist here.
    pub missing_splits: Vec<String>,
    /// Number of problems that are errors.
    pub errors: usize,
    /// Number of problems that are warnings.
    pub warnings: usize,
    /// Clips that several kept actions, or one action several times, have byte for byte.
    pub same_clips: Vec<SameClip>,
}

/// The result of a check of one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitReport {
    /// The split's name in the schema.
    pub name: String,
    /// Its folder.
    #[serde(serialize_with = "crate::lossy::path")]
    pub dir: PathBuf,
    /// Actions in the annotation file.
    pub actions: usize,
    /// Usable actions.
    pub kept: usize,
    /// Actions that are left out, by reason.
    pub left_out: IndexMap<String, usize>,
    /// Class counts per task over the kept actions; empty in a split without labels.
    pub tasks: Vec<TaskCounts>,
    /// Kept actions by number of clips, fewest first.
    pub views: Vec<(usize, usize)>,
    /// Number of clips by result: all, ok, short, odd, then the kinds of failures that occur. Short and
    /// odd clips are among the ok ones. Clips of actions that are left out are checked as well.
    pub clips: IndexMap<String, usize>,
    /// Values that match no class or are not listed in the schema, with the number of actions.
    pub values: IndexMap<String, usize>,
    /// Sizes, frame rates, rotations and pixel shapes of the readable clips, the most frequent first.
    pub formats: Vec<FormatCount>,
    /// The clips that have fewer frames in the window than are sampled from it; `None` if there are
    /// none.
    pub repeats: Option<Repeats>,
    /// Every problem: of annotations, of clips of kept actions, of other clips, each in file order; then
    /// those of several clips.
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
    /// The task's name.
    pub task: String,
    /// Its name for tables.
    pub title: String,
    /// Actions per class, in index order.
    pub classes: IndexMap<String, usize>,
}

impl CheckReport {
    /// Whether anything annotated cannot be used.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The report as text tables, for people. [`serde::Serialize`] gives the form for programs.
    pub fn render(&self) -> String {
        table::render(self)
    }
}

/// Checks all splits of a data set. `read` decodes a whole clip, given its path as annotated, and is
/// called from several threads; `progress` is called with the number of clips done and the total.
///
/// Everything that is wrong is in the report.
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
        // Right after decoding, while the system still has the file in memory.
        let digest = sources.digest(index);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
        (outcome, digest)
    };
    // Flat over all splits, so that a small split does not leave threads idle; collecting preserves
    // the order.
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
    /// Index of its split among those found.
    split: usize,
    action: String,
    path: PathBuf,
    /// Whether its action is kept.
    used: bool,
    /// The action's labels; empty without.
    labels: Vec<Option<usize>>,
}

/// Every clip of a split, those of left-out actions after the others.
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

/// The problem of a split without any action that can be used.
fn no_usable_action(report: &SplitReport, labelled: bool) -> Problem {
    let message = if report.actions == 0 {
        "the annotations hold no action; annotate some, or remove the split's folder".to_owned()
    } else {
        let reasons = report.left_out.iter().map(|(reason, n)| format!("{reason} ({n})"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let advice = if labelled { "; mend that, or remove the split's folder" } else { "" };
        format!("none of its {} actions can be used: {reasons}{advice}", report.actions)
    };
    let problem = Problem::of_split(ProblemKind::NoUsableAction, message);
    // Without labels nothing is trained on or evaluated.
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

/// A split that cannot be read at all.
fn unreadable(name: String, place: PathBuf, error: &DataError) -> SplitReport {
    let (kind, message) = (ProblemKind::Unreadable, error.to_string());
    let problem = match error {
        DataError::Io { .. } | DataError::Json { .. } => {
            Problem::of_file(kind, place.join(ANNOTATIONS).display().to_string(), message)
        }
        // The message names what it is about, such as a table or a split that cannot be made.
        _ => Problem::of_split(kind, message),
    };
    SplitReport { problems: vec![problem], ..SplitReport::new(name, place) }
}
