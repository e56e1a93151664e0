//! Checks a data set by reading every annotation and decoding every clip.

mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::Serialize;

use super::annotations::{ANNOTATIONS, Split, View, read_split};
use super::clip::{ClipError, ClipInfo};
use super::error::DataError;
use super::layout::{SplitDir, find_splits};
use super::problem::{Level, Problem, ProblemKind};
use super::sampling::WindowSpec;
use crate::schema::Schema;

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
    /// Every problem: of annotations, of clips of kept actions, of other clips; each in file order.
    pub problems: Vec<Problem>,
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

/// Checks all splits below `root`. `read` decodes a whole clip, given its path as annotated, and is
/// called from several threads; `progress` is called with the number of clips done and the total.
///
/// # Errors
/// [`DataError`] if there is no split at all. Everything else is in the report.
pub fn check_dataset(
    root: &Path,
    schema: &Schema,
    window: &WindowSpec,
    read: impl Fn(&Path) -> Result<ClipInfo, ClipError> + Sync,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<CheckReport, DataError> {
    let found = find_splits(root, schema)?;
    let splits: Vec<_> = found.iter().map(|found| (found, read_split(found, schema))).collect();

    let jobs: Vec<Vec<Job>> = splits.iter().map(|(_, s)| s.as_ref().map_or(vec![], jobs)).collect();
    let total = jobs.iter().map(Vec::len).sum();
    let done = AtomicUsize::new(0);
    let outcome = |job: &Job| {
        let outcome = read(&job.path);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        outcome
    };
    // Flat over all splits, so that a small split does not leave threads idle; collecting preserves
    // the order.
    let outcomes: Vec<_> = jobs.par_iter().flatten().map(outcome).collect();

    let mut outcomes = outcomes.into_iter();
    let reports: Vec<_> = splits
        .into_iter()
        .zip(jobs)
        .map(|((found, split), jobs)| {
            let clips: Vec<_> = jobs.into_iter().zip(outcomes.by_ref()).collect();
            match split {
                Ok(split) => report(split, schema, window, &clips),
                Err(error) => unreadable(found, &error),
            }
        })
        .collect();

    let missing = schema.splits.iter().filter(|s| found.iter().all(|f| f.name != s.name));
    let count = |level| {
        let problems = reports.iter().flat_map(|r: &SplitReport| &r.problems);
        problems.filter(|problem| problem.level == level).count()
    };
    Ok(CheckReport {
        root: root.to_owned(),
        schema: schema.name.clone(),
        missing_splits: missing.map(|split| split.name.clone()).collect(),
        errors: count(Level::Error),
        warnings: count(Level::Warning),
        splits: reports,
    })
}

/// One clip to read.
struct Job {
    action: String,
    path: PathBuf,
    /// Whether its action is kept.
    used: bool,
}

/// Every clip of a split, those of left-out actions after the others.
fn jobs(split: &Split) -> Vec<Job> {
    let job = |action: &str, view: &View, used: bool| Job {
        action: action.to_owned(),
        path: split.clip(view),
        used,
    };
    let kept = split.actions.iter().flat_map(|a| a.views.iter().map(|v| job(&a.id, v, true)));
    let others = split.left_out.iter().flat_map(|a| a.views.iter().map(|v| job(&a.id, v, false)));
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
        name: split.name,
        dir: split.dir,
        actions: split.actions.len() + split.left_out.len(),
        kept: split.actions.len(),
        left_out,
        tasks,
        views,
        clips: ["all", "ok", "short", "odd"].map(|key| (key.to_owned(), 0)).into(),
        values,
        problems: split.problems,
    };
    check_clips(&mut report, window, clips);
    report
}

fn class_counts(split: &Split, schema: &Schema) -> Vec<TaskCounts> {
    let counts = |(t, task): (usize, &crate::schema::Task)| {
        let counts = split.class_counts(t, task.classes.len());
        let classes = task.class_names().into_iter().zip(counts).collect();
        TaskCounts { task: task.name.clone(), title: task.title.clone(), classes }
    };
    schema.tasks.iter().enumerate().map(counts).collect()
}

fn check_clips(report: &mut SplitReport, window: &WindowSpec, clips: &[Clip]) {
    let usual = majority(clips.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()));
    let mut problems = Vec::new();
    let mut count = |key: &str| *report.clips.entry(key.to_owned()).or_insert(0) += 1;
    for (job, outcome) in clips {
        let mut add = |kind, message: String| {
            let file = job.path.display().to_string();
            let problem = Problem::of_clip(kind, &job.action, file, message);
            // A clip of an action that is not used is not needed.
            let level = if job.used { problem.level } else { Level::Warning };
            problems.push(Problem { level, ..problem });
        };
        count("all");
        let info = match outcome {
            Ok(info) => info,
            Err(error) => {
                count(error.kind());
                add(ProblemKind::from(error), error.to_string());
                continue;
            }
        };
        count("ok");
        if window.window_indices(info).past_end {
            count("short");
            let WindowSpec { start_frame, end_frame, .. } = window;
            let message = format!(
                "the window of frames {start_frame} to {end_frame} goes past its {} frames; the last \
                 one is repeated",
                info.frames
            );
            add(ProblemKind::ClipShort, message);
        }
        if let Some(usual) = usual.filter(|usual| *usual != Format::of(info)) {
            count("odd");
            let message = format!("{}, most clips of the split: {usual}", Format::of(info));
            add(ProblemKind::ClipOdd, message);
        }
    }
    report.problems.extend(problems);
}

/// Size and frame rate of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Format {
    width: usize,
    height: usize,
    /// Frames per 1000 seconds, so that it can be compared and counted.
    milli_fps: u64,
}

impl Format {
    fn of(info: &ClipInfo) -> Self {
        let milli_fps = (info.fps * 1000.0).round() as u64;
        Self { width: info.width, height: info.height, milli_fps }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fps = self.milli_fps as f64 / 1000.0;
        write!(f, "{}×{} at {fps} frames per second", self.width, self.height)
    }
}

/// The most frequent format, the first one on a tie.
fn majority<'a>(infos: impl Iterator<Item = &'a ClipInfo>) -> Option<Format> {
    let mut counts: IndexMap<Format, usize> = IndexMap::new();
    for info in infos {
        *counts.entry(Format::of(info)).or_insert(0) += 1;
    }
    let most = counts.values().copied().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(format, _)| format)
}

/// A split whose annotations cannot be read at all.
fn unreadable(found: &SplitDir, error: &DataError) -> SplitReport {
    let file = found.dir.join(ANNOTATIONS).display().to_string();
    SplitReport {
        name: found.name.clone(),
        dir: found.dir.clone(),
        actions: 0,
        kept: 0,
        left_out: IndexMap::new(),
        tasks: Vec::new(),
        views: Vec::new(),
        clips: IndexMap::new(),
        values: IndexMap::new(),
        problems: vec![Problem::of_file(ProblemKind::Unreadable, file, error.to_string())],
    }
}
