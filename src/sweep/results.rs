//! Results of a sweep: a table of its runs, and one of combinations with their seeds and folds merged.

use std::collections::HashSet;

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;

use super::{Best, Run, RunResult, Status, Sweep, SweepError, TABLE};
use crate::checkpoint::{CheckpointError, holds_run};
use crate::metrics::{Estimate, mean};
use crate::runs::REPEATED;

/// Runs that differ only in their seed and fold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Combination {
    /// Name of its set of options in `[variants]`.
    pub variant: Option<String>,
    /// Values of the options in `[grid]` and `[random]` other than seed and fold.
    pub options: IndexMap<String, String>,
    /// Number of its runs, by status.
    pub runs: IndexMap<&'static str, usize>,
    /// Score of the best epoch, over the finished runs, and over the tasks that [`scored`] names.
    pub score: Option<Estimate>,
    /// Balanced accuracy in the best epoch, by task.
    pub tasks: IndexMap<String, Option<Estimate>>,
}

impl Combination {
    /// Returns the number of its runs with this status.
    pub fn count(&self, status: Status) -> usize {
        self.runs.get(status.name()).copied().unwrap_or_default()
    }
}

/// Which tasks the scores of a sweep's combinations are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scored<'a> {
    /// Those of each run, which are the same in all finished runs.
    All,
    /// Those that all finished runs have; some runs have more.
    Common(Vec<&'a str>),
    /// Those of each run, as there are none that all finished runs have: no score can be compared with
    /// another.
    Own,
}

impl Scored<'_> {
    fn score(&self, best: &Best) -> f64 {
        match self {
            Self::Common(tasks) => mean(tasks.iter().map(|task| best.tasks[*task])),
            Self::All | Self::Own => best.score,
        }
    }
}

/// Returns which tasks the scores of these runs' combinations are over.
pub fn scored(results: &[RunResult]) -> Scored<'_> {
    let best: Vec<&Best> = best_of_finished(results).collect();
    let Some(first) = best.first() else { return Scored::All };
    let in_all = |task: &&String| best.iter().all(|best| best.tasks.contains_key(*task));
    let common: Vec<&str> = first.tasks.keys().filter(in_all).map(String::as_str).collect();
    if best.iter().all(|best| best.tasks.len() == common.len()) {
        Scored::All
    } else if common.is_empty() {
        Scored::Own
    } else {
        Scored::Common(common)
    }
}

fn best_of_finished<'a>(
    results: impl IntoIterator<Item = &'a RunResult>,
) -> impl Iterator<Item = &'a Best> {
    let finished = results.into_iter().filter(|result| result.status == Status::Finished);
    finished.filter_map(|result| result.best.as_ref())
}

/// Returns the combinations of a sweep by descending mean score, those without one last; in the file's
/// order if the scores cannot be compared.
pub fn combinations(sweep: &Sweep, results: &[RunResult]) -> Vec<Combination> {
    let mut groups: IndexMap<_, (&Run, Vec<&RunResult>)> = IndexMap::new();
    for (run, result) in sweep.runs.iter().zip(results) {
        let key = (&run.variant, distinguishing(run));
        groups.entry(key).or_insert_with(|| (run, Vec::new())).1.push(result);
    }
    let (tasks, scored) = (tasks(results), scored(results));
    let groups = groups.into_values();
    let mut all: Vec<Combination> =
        groups.map(|(run, results)| combination(run, &results, &tasks, &scored)).collect();
    if scored != Scored::Own {
        let rank = |c: &Combination| c.score.map_or(f64::NEG_INFINITY, |score| score.mean);
        // The sort is stable, so that ties keep the file's order.
        all.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    }
    all
}

/// Merges runs that differ only in their seed and fold; `run` is one of them.
fn combination(
    run: &Run,
    results: &[&RunResult],
    tasks: &IndexSet<&str>,
    scored: &Scored,
) -> Combination {
    let mut runs = IndexMap::new();
    for result in results {
        *runs.entry(result.status.name()).or_default() += 1;
    }
    let best: Vec<&Best> = best_of_finished(results.iter().copied()).collect();
    let scores: Vec<f64> = best.iter().map(|best| scored.score(best)).collect();
    let estimate = |task: &str| {
        let values: Vec<f64> =
            best.iter().filter_map(|best| best.tasks.get(task).copied()).collect();
        (task.to_owned(), Estimate::of(&values))
    };
    let options = distinguishing(run).into_iter();
    Combination {
        variant: run.variant.clone(),
        options: options.map(|(name, value)| (name.clone(), value.clone())).collect(),
        runs,
        score: Estimate::of(&scores),
        tasks: tasks.iter().map(|task| estimate(task)).collect(),
    }
}

/// Returns the options of `[grid]` and `[random]` that tell the run's combination from others.
fn distinguishing(run: &Run) -> Vec<(&String, &String)> {
    run.options.iter().filter(|(name, _)| !REPEATED.contains(&name.as_str())).collect()
}

/// Returns the tasks of all runs.
fn tasks(results: &[RunResult]) -> IndexSet<&str> {
    let best = results.iter().filter_map(|result| result.best.as_ref());
    best.flat_map(|best| best.tasks.keys()).map(String::as_str).collect()
}

/// Returns the table of all runs as CSV. Columns: name, variant, the options of `[grid]` and `[random]`,
/// seed, status, finished epochs, best epoch so far and its score, its `balanced_accuracy/TASK`, and
/// seconds of wall time. Variant and seed are left out if the file has none.
///
/// # Errors
/// A table that cannot be made, which should not happen.
pub fn results_csv(sweep: &Sweep, results: &[RunResult]) -> Result<String, SweepError> {
    let failed = |error: String| CheckpointError::Write {
        path: sweep.out.join(TABLE),
        source: std::io::Error::other(error),
    };
    let tasks = tasks(results);
    let has = |part: fn(&Run) -> bool| sweep.runs.iter().any(part);
    let (variants, seeds) = (has(|run| run.variant.is_some()), has(|run| run.seed.is_some()));
    let mut header = vec!["name".to_owned()];
    header.extend(variants.then(|| "variant".to_owned()));
    header.extend(sweep.varied().cloned());
    header.extend(seeds.then(|| "seed".to_owned()));
    header.extend(["status", "epochs_done", "best_epoch", "score"].map(str::to_owned));
    header.extend(tasks.iter().map(|task| format!("balanced_accuracy/{task}")));
    header.push("seconds".to_owned());

    let mut table = csv::Writer::from_writer(Vec::new());
    let mut write = |row: Vec<String>| table.write_record(row).map_err(|e| failed(e.to_string()));
    write(header)?;
    for (run, result) in sweep.runs.iter().zip(results) {
        let best = result.best.as_ref();
        let mut row = vec![run.name.clone()];
        row.extend(run.variant.clone());
        row.extend(run.options.values().cloned());
        row.extend(run.seed.map(|seed| seed.to_string()));
        row.extend([result.status.name().to_owned(), result.epochs.to_string()]);
        row.push(best.map_or_else(String::new, |best| best.epoch.to_string()));
        row.push(best.map_or_else(String::new, |best| best.score.to_string()));
        row.extend(tasks.iter().map(|task| {
            let value = best.and_then(|best| best.tasks.get(*task));
            value.map_or_else(String::new, f64::to_string)
        }));
        row.push(if result.epochs > 0 { format!("{:.1}", result.seconds) } else { String::new() });
        write(row)?;
    }
    let bytes = table.into_inner().map_err(|error| failed(error.to_string()))?;
    Ok(String::from_utf8(bytes).map_err(|error| failed(error.to_string()))?)
}

/// Refuses to replace a table that lists runs of another sweep whose folders still exist: no table would
/// list their results any more.
///
/// # Errors
/// [`SweepError::Others`].
pub(super) fn protect_other_sweep(sweep: &Sweep) -> Result<(), SweepError> {
    let path = sweep.out.join(TABLE);
    // A table that cannot be read lists no runs.
    let Ok(mut table) = csv::Reader::from_path(&path) else { return Ok(()) };
    let ours: HashSet<&str> = sweep.runs.iter().map(|run| run.name.as_str()).collect();
    let names =
        table.records().map_while(Result::ok).filter_map(|row| Some(row.get(0)?.to_owned()));
    let others: Vec<String> = names
        .filter(|name| !ours.contains(name.as_str()) && holds_run(&sweep.out.join(name)))
        .collect();
    let runs = match others.as_slice() {
        [] => return Ok(()),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    Err(SweepError::Others { table: path, runs })
}
