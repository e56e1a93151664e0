//! Results of a sweep: a table of its runs, and one of combinations with their seeds merged.

use std::collections::HashSet;

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;

use super::{Best, Run, RunResult, Status, Sweep, SweepError, TABLE};
use crate::checkpoint::{CheckpointError, holds_run};
use crate::metrics::Estimate;

/// Runs that differ only in their seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Combination {
    /// Name of its set of options in `[variants]`.
    pub variant: Option<String>,
    /// Values of the options in `[grid]` and `[random]`.
    pub options: IndexMap<String, String>,
    /// Number of its runs, by status.
    pub runs: IndexMap<&'static str, usize>,
    /// Score of the best epoch, over the finished runs.
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

/// Returns the combinations of a sweep by descending mean score, those without one last.
pub fn combinations(sweep: &Sweep, results: &[RunResult]) -> Vec<Combination> {
    let mut groups: IndexMap<_, (&Run, Vec<&RunResult>)> = IndexMap::new();
    for (run, result) in sweep.runs.iter().zip(results) {
        let key = (&run.variant, run.options.as_slice());
        groups.entry(key).or_insert_with(|| (run, Vec::new())).1.push(result);
    }
    let tasks = tasks(results);
    let combination = |(run, results): (&Run, Vec<&RunResult>)| {
        let mut runs = IndexMap::new();
        for result in &results {
            *runs.entry(result.status.name()).or_default() += 1;
        }
        let finished = results.iter().filter(|result| result.status == Status::Finished);
        let best: Vec<&Best> = finished.filter_map(|result| result.best.as_ref()).collect();
        let scores: Vec<f64> = best.iter().map(|best| best.score).collect();
        let estimate = |task: &str| {
            let values: Vec<f64> = best.iter().filter_map(|best| *best.tasks.get(task)?).collect();
            (task.to_owned(), Estimate::of(&values))
        };
        Combination {
            variant: run.variant.clone(),
            options: run.options.clone(),
            runs,
            score: Estimate::of(&scores),
            tasks: tasks.iter().map(|task| estimate(task)).collect(),
        }
    };
    let mut all: Vec<Combination> = groups.into_values().map(combination).collect();
    let rank = |c: &Combination| c.score.map_or(f64::NEG_INFINITY, |score| score.mean);
    // The sort is stable, so that ties keep the file's order.
    all.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    all
}

/// Returns the tasks of all runs.
fn tasks(results: &[RunResult]) -> IndexSet<&str> {
    let best = results.iter().filter_map(|result| result.best.as_ref());
    best.flat_map(|best| best.tasks.keys()).map(String::as_str).collect()
}

/// Returns the table of all runs as CSV. Columns: name, variant, the options of `[grid]` and `[random]`,
/// seed, status, finished epochs, best epoch so far and its score, its `balanced_accuracy/TASK`, and
/// seconds of training and validation. Variant and seed are left out if the file has none.
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
            let value = best.and_then(|best| *best.tasks.get(*task)?);
            value.map_or_else(String::new, |value| value.to_string())
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
