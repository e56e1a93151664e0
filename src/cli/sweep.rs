//! `polyview sweep`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use indexmap::IndexMap;
use indicatif::HumanDuration;
use serde_json::{Value, json};

use super::{
    CommandResult, EXIT_FAILURE, EXIT_INTERRUPTED, Failure, Terminal, print_json, print_text,
};
use crate::metrics::Estimate;
use crate::options::at_least;
use crate::sweep::{
    Best, Combination, Run, RunResult, Scored, Status, Sweep, SweepEvent, TABLE, combinations,
    scored,
};
use crate::units::plural;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// The sweep (TOML): options of all runs, variants, a grid, random draws, seeds
    file: PathBuf,
    /// Folder for the runs' folders and the table of results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of runs to train at once
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = 1)]
    jobs: usize,
    /// Print the runs with their options instead of training them
    #[arg(long)]
    dry_run: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

impl SweepArgs {
    pub(super) fn run(self, terminal: &Terminal) -> CommandResult {
        let sweep = Sweep::load(&self.file, &self.out)?;
        if self.dry_run {
            sweep.check()?;
            if self.json {
                print_json(&plan_json(&sweep))?;
            } else {
                print_text(&plan(&sweep))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let stop = super::signals::stop_flag();
        let program = std::env::current_exe().map_err(|error| {
            Failure::runtime(format!("cannot find this program's file: {error}"))
        })?;
        let runs = &sweep.runs;
        terminal.line(&format!("{} in {}", plural(runs.len(), "run"), self.out.display()));
        let mut observer = |event: &SweepEvent| terminal.line(&event_line(event, runs));
        let results = sweep.run(&program, self.jobs, &stop, &mut observer)?;
        let combinations = combinations(&sweep, &results);
        if self.json {
            print_json(&results_json(runs, &results, &combinations))?;
        } else {
            print_text(&format!("\n{}\n\n{}", table(&combinations), summary(&sweep, &results)))?;
        }
        // Another process answers for the runs that it trains.
        let open =
            |result: &RunResult| !matches!(result.status, Status::Finished | Status::Running);
        Ok(if stop.load(Ordering::Relaxed) {
            terminal.line("interrupted; to continue, run the same command again");
            ExitCode::from(EXIT_INTERRUPTED)
        } else if results.iter().any(open) {
            ExitCode::from(EXIT_FAILURE)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Formats an event of a run, with the run's number and name.
fn event_line(event: &SweepEvent, runs: &[Run]) -> String {
    let (index, text) = match event {
        SweepEvent::Started { index, resumes: false } => (*index, "started".to_owned()),
        SweepEvent::Started { index, resumes: true } => (*index, "resumed".to_owned()),
        SweepEvent::Elsewhere { index } => (*index, "another process is training it".to_owned()),
        SweepEvent::Ended { index, result, took } => (*index, outcome(result, *took)),
    };
    let (count, name) = (runs.len(), &runs[index].name);
    let width = count.to_string().len();
    format!("{:>width$} of {count}  {name}: {text}", index + 1)
}

fn outcome(result: &RunResult, took: Duration) -> String {
    let took = HumanDuration(took);
    let best = result.best.as_ref();
    let score = best.map(|Best { epoch, score, .. }| format!("score {score:.3} in epoch {epoch}"));
    match (result.status, &result.reason, score) {
        (Status::Failed, Some(reason), _) => format!("failed: {reason}"),
        (Status::Finished, _, Some(score)) => format!("{score}, {took}"),
        (status, _, Some(score)) => format!("{status}, {score}, {took}"),
        (status, _, None) => format!("{status}, {took}"),
    }
}

/// Lists the runs with their options.
fn plan(sweep: &Sweep) -> String {
    let list = |options: &IndexMap<String, String>| {
        let pairs: Vec<String> =
            options.iter().map(|(name, value)| format!("{name} {value}")).collect();
        pairs.join(", ")
    };
    let count = sweep.runs.len();
    let mut lines = vec![plural(count, "run")];
    if !sweep.common.is_empty() {
        lines.push(format!("options of all runs, unless given below: {}", list(&sweep.common)));
    }
    let width = count.to_string().len();
    for (index, run) in sweep.runs.iter().enumerate() {
        let (number, own) = (index + 1, list(&run.own));
        let own = if own.is_empty() { "no other options" } else { &own };
        lines.push(format!("{number:>width$} of {count}  {}: {own}", run.name));
    }
    lines.join("\n")
}

fn plan_json(sweep: &Sweep) -> Value {
    let run = |run: &Run| json!({ "name": run.name, "options": run.own });
    let runs: Vec<Value> = sweep.runs.iter().map(run).collect();
    json!({ "common": sweep.common, "runs": runs })
}

fn results_json(runs: &[Run], results: &[RunResult], combinations: &[Combination]) -> Value {
    let run = |(run, result): (&Run, &RunResult)| {
        json!({
            "name": run.name,
            "variant": run.variant,
            "options": run.options,
            "seed": run.seed,
            "result": result,
        })
    };
    let runs: Vec<Value> = runs.iter().zip(results).map(run).collect();
    json!({ "runs": runs, "combinations": combinations })
}

/// Builds the table of combinations, in their order.
fn table(combinations: &[Combination]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    // Some terminals do not know their width and report 0.
    if table.width().is_some_and(|width| width > 0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let Some(first) = combinations.first() else {
        return table;
    };
    let mut header: Vec<&str> = first.variant.iter().map(|_| "variant").collect();
    header.extend(first.options.keys().map(String::as_str));
    let estimates = header.len()..header.len() + 1 + first.tasks.len();
    header.push("score");
    header.extend(first.tasks.keys().map(String::as_str));
    header.push("runs");
    let header: Vec<String> = header.into_iter().map(in_parts).collect();
    table.set_header(&header);
    for combination in combinations {
        let mut row: Vec<String> = combination.variant.iter().cloned().collect();
        row.extend(combination.options.values().cloned());
        let shown = |estimate: Option<Estimate>| {
            estimate.map_or_else(|| "–".to_owned(), |estimate| estimate.to_string())
        };
        row.push(shown(combination.score));
        row.extend(combination.tasks.values().map(|task| shown(*task)));
        row.push(runs(combination));
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if index > 0 || first.variant.is_none() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        // On a narrow terminal the standard errors move to a line of their own; no word is broken.
        column.set_constraint(if estimates.contains(&index) {
            let widest = header[index].lines().map(|part| part.chars().count()).max();
            let width = widest.unwrap_or_default().max(ERROR_WIDTH) + PADDING;
            ColumnConstraint::LowerBoundary(Width::Fixed(u16::try_from(width).unwrap_or(u16::MAX)))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    table
}

/// Width of a standard error.
const ERROR_WIDTH: usize = "± 0.000".len() - 1;
/// Width of the space around a cell.
const PADDING: usize = 2;

/// Breaks a name into lines after `-` and `_`.
fn in_parts(name: &str) -> String {
    name.split_inclusive(['-', '_']).collect::<Vec<_>>().join("\n")
}

/// Formats how many of a combination's runs are finished.
fn runs(combination: &Combination) -> String {
    let all: usize = combination.runs.values().sum();
    let finished = combination.count(Status::Finished);
    if finished == all { all.to_string() } else { format!("{finished} of {all}") }
}

/// Summarises the status of all runs and says where the table of them is.
fn summary(sweep: &Sweep, results: &[RunResult]) -> String {
    let mut parts = Vec::new();
    for status in Status::ALL {
        let count = results.iter().filter(|result| result.status == *status).count();
        if count > 0 {
            parts.push(format!("{count} {status}"));
        }
    }
    let repeated: Vec<String> = sweep.repeated().map(|option| format!("{option}s")).collect();
    let means = if repeated.is_empty() {
        String::new()
    } else {
        format!("; mean ±\nstandard error over the {} of finished runs", repeated.join(" and "))
    };
    let over = match scored(results) {
        Scored::All => String::new(),
        Scored::Common(tasks) => {
            format!(
                "\nscore: over {} only, as not all runs have labels for the other tasks",
                tasks.join(", ")
            )
        }
        Scored::Own => {
            "\nin the file's order: the runs have no task with labels in common, so their \
                        scores cannot be compared"
                .to_owned()
        }
    };
    format!(
        "score and each task's balanced accuracy in the epoch with the best score{means}{over}\n\n\
         {}: {}\ntable of all runs: {}",
        plural(results.len(), "run"),
        parts.join(", "),
        sweep.out.join(TABLE).display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(folder: &std::path::Path, text: &str) -> Sweep {
        let path = folder.join("sweep.toml");
        std::fs::write(&path, text).expect("a file");
        Sweep::load(&path, &folder.join("out")).expect("a sweep")
    }

    #[test]
    fn the_caption_names_what_is_averaged() {
        let folder = tempfile::tempdir().expect("a folder");
        for (seeds, grid, expected) in [
            ("", "lr = [1e-3]", None),
            ("seeds = [0, 1]", "lr = [1e-3]", Some("over the seeds of")),
            ("", "fold = [\"1/2\", \"2/2\"]", Some("over the folds of")),
            ("seeds = [0, 1]", "fold = [\"1/2\", \"2/2\"]", Some("over the seeds and folds of")),
        ] {
            let text = format!("{seeds}\n[base]\ndataset-root = \"data\"\n[grid]\n{grid}\n");
            let sweep = loaded(folder.path(), &text);
            let shown = summary(&sweep, &sweep.results());
            match expected {
                Some(expected) => assert!(shown.contains(expected), "{shown}"),
                None => assert!(!shown.contains("mean ±"), "{shown}"),
            }
        }
    }

    #[test]
    fn the_caption_names_the_tasks_of_the_scores() {
        let folder = tempfile::tempdir().expect("a folder");
        let sweep = loaded(folder.path(), "[base]\ndataset-root = \"data\"\n[grid]\nlr = [1, 2]\n");
        let result = |tasks: &[&str]| RunResult {
            status: Status::Finished,
            reason: None,
            epochs: 1,
            seconds: 1.0,
            best: Some(Best {
                epoch: 1,
                score: 0.5,
                tasks: tasks.iter().map(|task| ((*task).to_owned(), 0.5)).collect(),
            }),
        };
        for (tasks, expected) in [
            ([&["a", "b"][..], &["b", "a"][..]], None),
            ([&["a", "b"][..], &["b"][..]], Some("score: over b only")),
            (
                [&["a"][..], &["b"][..]],
                Some("in the file's order: the runs have no task with labels in common"),
            ),
        ] {
            let shown = summary(&sweep, &tasks.map(result));
            match expected {
                Some(expected) => assert!(shown.contains(expected), "{shown}"),
                None => {
                    assert!(!shown.contains("score: ") && !shown.contains("order: "), "{shown}")
                }
            }
        }
    }
}
