//! Repeated runs, which differ only in their seed or fold, and their means.

use indexmap::IndexMap;
use serde::Serialize;

use super::paired::score_difference;
use super::{DifferingOption, Run, RunSummary};
use crate::metrics::{Estimate, MetricsError};

/// The options in which repeated runs differ.
pub(crate) const REPEATED: [&str; 2] = ["seed", "fold"];

/// Runs whose options are equal except for `seed` and `fold`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeats {
    /// Part that the names of the runs have in common.
    pub name: String,
    /// Indices of the runs among those that are compared, one for each seed and fold.
    pub runs: Vec<usize>,
    /// Score of the best epochs.
    pub score: Option<Estimate>,
    /// Balanced accuracy in the best epochs, by task.
    pub tasks: IndexMap<String, Estimate>,
    /// Score minus that of the reference's repetitions, over the pairs with the same seed and fold and
    /// in each over the tasks and actions that both have; `None` for the reference itself, and without
    /// such pairs.
    pub difference: Option<Estimate>,
}

impl Repeats {
    /// Formats over how many of its runs the means are taken.
    pub(crate) fn counted(&self) -> String {
        let (all, scored) = (self.runs.len(), self.score.map_or(0, |score| score.n));
        if scored == all { all.to_string() } else { format!("{scored} of {all}") }
    }
}

/// Groups runs by their options, in order, so that the group of the reference (the first run) comes first;
/// empty if no run is repeated. `runs` summarises `read`.
///
/// # Errors
/// [`MetricsError`], which should not happen.
pub(super) fn repeats(
    read: &[Run],
    runs: &[RunSummary],
    options: &[DifferingOption],
) -> Result<Vec<Repeats>, MetricsError> {
    let (repeated, others): (Vec<_>, Vec<_>) =
        options.iter().partition(|option| REPEATED.contains(&option.option.as_str()));
    let values = |options: &[&DifferingOption], run: usize| -> Vec<Option<String>> {
        options.iter().map(|option| option.values[run].clone()).collect()
    };
    let mut groups: IndexMap<_, Vec<usize>> = IndexMap::new();
    for run in 0..runs.len() {
        let group = groups.entry(values(&others, run)).or_default();
        // A copy of a run adds no information and would only make the mean look more certain than it is.
        let same = |other: &&mut usize| values(&repeated, **other) == values(&repeated, run);
        match group.iter_mut().find(same) {
            Some(first) if runs[*first].score.is_none() => *first = run,
            Some(_) => {}
            None => group.push(run),
        }
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    if groups.iter().all(|group| group.len() == 1) {
        return Ok(Vec::new());
    }
    let names = names(runs, &groups);
    let reference = &groups[0];
    let group = |(index, (group, name)): (usize, (&Vec<usize>, String))| {
        let score = |run: &usize| runs[*run].score;
        let of = |task: &str| {
            let tasks = group.iter().flat_map(|run| &runs[*run].tasks);
            let tasks = tasks.filter(|summary| summary.task == task);
            Estimate::of(&tasks.map(|summary| summary.balanced_accuracy).collect::<Vec<_>>())
        };
        let mut tasks = IndexMap::new();
        for summary in group.iter().flat_map(|run| &runs[*run].tasks) {
            tasks.entry(summary.task.clone()).or_insert_with_key(|task| of(task));
        }
        // The runs of a pair may have other tasks or even other data.
        let pair = |run: &usize| {
            let same = |other: &&usize| values(&repeated, **other) == values(&repeated, *run);
            let other = reference.iter().find(same)?;
            let tables = [&read[*other].predictions, &read[*run].predictions];
            let [Some(before), Some(after)] = tables else { return None };
            score_difference([before, after]).transpose()
        };
        let pairs: Vec<f64> = group.iter().filter_map(pair).collect::<Result<_, _>>()?;
        Ok(Repeats {
            name,
            runs: group.clone(),
            score: Estimate::of(&group.iter().filter_map(score).collect::<Vec<_>>()),
            tasks: tasks.into_iter().filter_map(|(task, mean)| Some((task, mean?))).collect(),
            difference: if index == 0 { None } else { Estimate::of(&pairs) },
        })
    };
    groups.iter().zip(names).enumerate().map(group).collect()
}

/// Returns the prefix that the names in each group share, without remains of `_seed=` or `-fold-`. If it is
/// empty or another group has it too, the first name and the number of others.
fn names(runs: &[RunSummary], groups: &[Vec<usize>]) -> Vec<String> {
    let shared = |group: &Vec<usize>| {
        let first = runs[group[0]].name.as_str();
        let common = |name: &str| {
            let same = first.chars().zip(name.chars()).take_while(|(a, b)| a == b);
            same.map(|(a, _)| a.len_utf8()).sum::<usize>()
        };
        let length = group.iter().map(|run| common(&runs[*run].name)).min();
        let mut name = &first[..length.unwrap_or_default()];
        if group.len() > 1 {
            let end = |c: char| !c.is_alphanumeric();
            name = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(end);
            for option in REPEATED {
                name = name.strip_suffix(option).unwrap_or(name).trim_end_matches(end);
            }
        }
        name
    };
    let all: Vec<&str> = groups.iter().map(shared).collect();
    let is_clear =
        |name: &str| !name.is_empty() && all.iter().filter(|other| **other == name).count() == 1;
    groups
        .iter()
        .zip(&all)
        .map(|(group, name)| match group.len() {
            1 => runs[group[0]].name.clone(),
            _ if is_clear(name) => (*name).to_owned(),
            more => format!("{} and {} more", runs[group[0]].name, more - 1),
        })
        .collect()
}
