//! Finds clips that occur several times in a data set.

use indexmap::IndexMap;
use serde::Serialize;

use super::super::problem::{Problem, ProblemKind};
use super::Job;
use crate::schema::Schema;

/// A clip that occurs several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SameClip {
    /// Occurrences of the clip, in the order of the report; at least two.
    pub places: Vec<Place>,
}

/// An occurrence of a clip in a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Name of the split.
    pub split: String,
    /// Id of the action.
    pub action: String,
    /// Path of the clip, without its extension if the annotation has none.
    pub file: String,
}

/// The result of the search.
pub(super) struct Same {
    pub clips: Vec<SameClip>,
    /// Problems, each with the index of its split.
    pub problems: Vec<(usize, Problem)>,
}

/// Maximum number of other actions that a message names; the rest are only counted.
const NAMED: usize = 3;

/// Examines groups of clips with the same content. Clips of actions that are not kept are ignored.
pub(super) fn find(groups: &[Vec<usize>], jobs: &[Job], splits: &[&str], schema: &Schema) -> Same {
    let mut same = Same { clips: Vec::new(), problems: Vec::new() };
    // Actions usually share all of their clips; this is reported in one line per action.
    let mut shared: IndexMap<Vec<(usize, &str)>, Vec<Vec<&Job>>> = IndexMap::new();
    for group in groups {
        let places: Vec<&Job> = group.iter().map(|k| &jobs[*k]).filter(|job| job.used).collect();
        if places.len() < 2 {
            continue;
        }
        same.clips.push(SameClip { places: places.iter().map(|job| place(job, splits)).collect() });
        let mut actions: IndexMap<(usize, &str), &Job> = IndexMap::new();
        for job in places {
            let first = *actions.entry((job.split, job.action.as_str())).or_insert(job);
            if !std::ptr::eq(first, job) {
                let message = format!("the same clip as {}", first.path.display());
                let kind = ProblemKind::DuplicateClip;
                same.problems.push((job.split, of_clip(kind, job, message)));
            }
        }
        let (actions, jobs): (Vec<_>, Vec<_>) = actions.into_iter().unzip();
        shared.entry(actions).or_default().push(jobs);
    }
    for clips in shared.into_values() {
        let Some((actions, others)) = clips.split_first() else { continue };
        for (k, job) in actions.iter().enumerate().skip(1) {
            report_shared(&mut same, job, &actions[..k], others.len(), splits, schema);
        }
    }
    same
}

/// Adds the problems of an action that shares a clip, and `more` others, with earlier actions.
fn report_shared(
    same: &mut Same,
    job: &Job,
    earlier: &[&Job],
    more: usize,
    splits: &[&str],
    schema: &Schema,
) {
    let clips = match more {
        0 => "the same clip is".to_owned(),
        _ => format!("this and {more} more of its clips are"),
    };
    let mut add = |kind, message| same.problems.push((job.split, of_clip(kind, job, message)));
    let contradicts = |other: &&&Job| {
        job.labels.iter().zip(&other.labels).any(|(here, there)| contradict(*here, *there))
    };
    if let Some(other) = earlier.iter().find(contradicts) {
        let differences = differences(job, other, splits, schema);
        add(ProblemKind::ContradictingLabels, format!("{differences}, for the same clip"));
    }
    let (here, there): (Vec<&Job>, Vec<&Job>) =
        earlier.iter().partition(|other| other.split == job.split);
    if !there.is_empty() {
        let message = format!("{clips} in {}", named(&there, splits));
        add(ProblemKind::ClipInTwoSplits, message);
    }
    // A contradiction within the split has already been reported.
    if !here.is_empty() && !here.iter().any(|other| contradicts(&other)) {
        add(ProblemKind::ClipInTwoActions, format!("{clips} in {}", named(&here, splits)));
    }
}

fn of_clip(kind: ProblemKind, job: &Job, message: String) -> Problem {
    Problem::of_clip(kind, &job.action, job.path.display().to_string(), message)
}

fn place(job: &Job, splits: &[&str]) -> Place {
    Place {
        split: splits[job.split].to_owned(),
        action: job.action.clone(),
        file: job.path.display().to_string(),
    }
}

/// Returns whether two labels of a clip contradict each other; an unknown label never does.
fn contradict(here: Option<usize>, there: Option<usize>) -> bool {
    here.zip(there).is_some_and(|(here, there)| here != there)
}

/// Returns, for example, "Action class: Holding here, Tackling in action 0 of train".
fn differences(job: &Job, other: &Job, splits: &[&str], schema: &Schema) -> String {
    let labels = job.labels.iter().zip(&other.labels);
    let tasks = schema.tasks.iter().zip(labels);
    let differing = tasks.filter(|(_, (here, there))| contradict(**here, **there));
    let texts = differing.map(|(task, (here, there))| {
        let name = |label: &Option<usize>| label.map_or("", |class| &task.classes[class].name);
        let (here, there) = (name(here), name(there));
        format!("{}: {here:?} here, {there:?} in {}", task.title, named(&[other], splits))
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// Returns, for example, "actions 3, 4 of train and action 7 of valid".
fn named(others: &[&Job], splits: &[&str]) -> String {
    let mut groups: IndexMap<usize, Vec<&str>> = IndexMap::new();
    for job in others.iter().take(NAMED) {
        groups.entry(job.split).or_default().push(&job.action);
    }
    let group = |(split, actions): (usize, Vec<&str>)| {
        let (noun, actions) = match &actions[..] {
            [action] => ("action", (*action).to_owned()),
            actions => ("actions", actions.join(", ")),
        };
        format!("{noun} {actions} of {}", splits[split])
    };
    let mut text = groups.into_iter().map(group).collect::<Vec<_>>().join(" and ");
    if others.len() > NAMED {
        text += &format!(" and {} more", others.len() - NAMED);
    }
    text
}
