//! `polyview compare`: runs side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::advice::{Advice, output_failure};
use super::out_file::{check_out_file, protect_other_file};
use super::{CommandResult, EXIT_FAILURE, EXIT_USAGE, Failure, Terminal, print_json, print_text};
use crate::atomic_file::linked;
use crate::checkpoint::write_atomically;
use crate::evaluate::{Difference, Interval};
use crate::metrics::Estimate;
use crate::runs::{DifferingOption, RunTable, RunsError, find, is_page, page, read_all, signed};
use crate::units::plural;

/// Maximum number of runs for which recalls per class are printed. With more, they are only in the
/// JSON and on the page that `--out` writes.
const MAX_RUNS_WITH_CLASSES: usize = 8;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Folders of runs, or of such folders; the first run is the reference
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Page to write, with curves and everything else (HTML)
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CompareArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        if let Some(out) = &self.out {
            // Keeps a mistyped path from overwriting a run's file.
            check_out_file("--out", out, "html")?;
            protect_other_file("--out", out, "a page of compared runs", is_page)?;
        }
        let (runs, left_out) = read_all(&find(&self.runs)?)?;
        let mut table = RunTable::new(&runs)?;
        table.notes.extend(left_out.iter().map(|error| format!("left out: {error}")));
        // The page is written last, so that a write error does not lose the results.
        if self.json {
            print_json(&table)?;
        } else {
            print_text(&text(&table))?;
        }
        if let Some(out) = &self.out {
            let page = page(&runs, &table).map_err(Failure::runtime)?;
            write_atomically(&linked(out), page.as_bytes())
                .map_err(|error| output_failure("--out", &error))?;
            terminal.line(&format!("page: {}", out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Advice for RunsError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::NoRun { .. } => Some("give the --save-dir of a `polyview train` run".to_owned()),
            Self::TooFew { .. } => {
                Some("give the folders of more runs, or a folder that holds them".to_owned())
            }
            Self::Damaged { .. } => {
                Some("leave this run out, or repeat it with `polyview train`".to_owned())
            }
            Self::Read { .. } => None,
        }
    }

    fn status(&self) -> u8 {
        if matches!(self, Self::TooFew { .. }) { EXIT_USAGE } else { EXIT_FAILURE }
    }
}

/// Formats all results as tables that fit the terminal.
fn text(table: &RunTable) -> String {
    let tasks = table.tasks();
    let mut parts = vec![results(table, &tasks).to_string()];
    let has_intervals = table.runs.iter().any(|run| run.score_interval.is_some());
    let below = if has_intervals { "\nwith 95 % confidence intervals below" } else { "" };
    parts.push(format!(
        "best epochs, validation split: score, each task's balanced accuracy{below}"
    ));
    if !table.notes.is_empty() {
        parts.push(format!("\n{}", table.notes.join("\n")));
    }
    if !table.differences.is_empty() {
        parts.push(format!("\ndifferences from {}", table.runs[0].name));
        parts.push(differences(table, &tasks).to_string());
        parts.push(
            "* the 95 % interval excludes 0 (paired bootstrap over the actions of both runs, at least 5)"
                .to_owned(),
        );
        if table.runs.len() > MAX_RUNS_WITH_CLASSES {
            parts.push("recalls per class: with --out FILE or --json".to_owned());
        } else {
            // A task of only one run has no classes to compare.
            for task in tasks.iter().filter(|task| !table.classes(task).is_empty()) {
                parts.push(format!("\n{task}, recall per class"));
                parts.push(classes(table, task).to_string());
            }
        }
    }
    if table.options.is_empty() {
        parts.push("\nno option that changes the outcome differs".to_owned());
    } else {
        parts.push("\noptions that differ".to_owned());
        parts.push(options(table).to_string());
    }
    // Last, where it stays visible in the terminal: with many runs, the means are what matters.
    if let Some(reference) = table.repeats.first() {
        parts.push("\nover seeds and folds: runs whose other options are equal".to_owned());
        parts.push(means(table, &tasks).to_string());
        parts.push(format!(
            "mean ± standard error; difference: in score from {}, over pairs of\nruns with the same seed and fold, on the tasks and actions that both have",
            reference.name
        ));
    }
    parts.join("\n")
}

/// Returns a table without rows whose columns from number `right_from` on are right-aligned.
fn new_table(preset: &str, header: Vec<String>, right_from: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(preset).set_content_arrangement(ContentArrangement::Dynamic);
    let cells = header.into_iter().enumerate().map(|(column, text)| {
        let right = column >= right_from;
        Cell::new(text).set_alignment(if right {
            CellAlignment::Right
        } else {
            CellAlignment::Left
        })
    });
    table.set_header(cells.collect::<Vec<_>>());
    for column in table.column_iter_mut().skip(right_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn dash() -> String {
    "–".to_owned()
}

/// Returns a task's name as separate words, between which a narrow column can break it.
fn words(task: &str) -> String {
    task.replace('_', " ")
}

/// Builds the table of results, a row per run.
fn results(table: &RunTable, tasks: &[&str]) -> Table {
    let mut header = ["run", "epochs", "best", "score"].map(str::to_owned).to_vec();
    header.extend(tasks.iter().map(|task| words(task)));
    header.push("loss".to_owned());
    let mut shown = new_table(presets::UTF8_HORIZONTAL_ONLY, header, 1);
    let below = |value: f64, interval: Option<Interval>| match interval {
        Some(Interval { low, high }) => format!("{value:.3}\n{low:.3}–{high:.3}"),
        None => format!("{value:.3}"),
    };
    for run in &table.runs {
        let mut row = vec![run.name.clone(), run.epochs.to_string()];
        row.push(run.best_epoch.map_or_else(dash, |epoch| epoch.to_string()));
        row.push(run.score.map_or_else(dash, |score| below(score, run.score_interval)));
        row.extend(tasks.iter().map(|task| {
            let summary = run.tasks.iter().find(|summary| summary.task == *task);
            summary.map_or_else(dash, |summary| below(summary.balanced_accuracy, summary.interval))
        }));
        row.push(run.valid_loss.map_or_else(dash, |loss| format!("{loss:.3}")));
        shown.add_row(row);
    }
    shown
}

/// Builds the table of means, a row per set of runs that differ only in seed and fold.
fn means(table: &RunTable, tasks: &[&str]) -> Table {
    let mut header = ["configuration", "runs", "score"].map(str::to_owned).to_vec();
    header.extend(tasks.iter().map(|task| words(task)));
    header.push("difference".to_owned());
    let mut shown = new_table(presets::UTF8_HORIZONTAL_ONLY, header, 1);
    for group in &table.repeats {
        let mut row = vec![group.name.clone(), group.counted()];
        row.push(group.score.map_or_else(dash, |score| score.to_string()));
        let of = |task: &&str| group.tasks.get(*task).map_or_else(dash, Estimate::to_string);
        row.extend(tasks.iter().map(of));
        row.push(group.difference.map_or_else(dash, |mean| {
            let error = mean.error.map_or_else(String::new, |error| format!(" ±\u{a0}{error:.3}"));
            format!("{}{error}\n{}", signed(mean.mean, 3), plural(mean.n, "pair"))
        }));
        shown.add_row(row);
    }
    shown
}

/// Formats a difference, marked if its interval excludes 0.
fn marked(difference: &Difference) -> String {
    let mark = if difference.excludes_zero { " *" } else { "" };
    format!("{}{mark}", signed(difference.value, 3))
}

fn range(Interval { low, high }: Interval) -> String {
    format!("{} to {}", signed(low, 3), signed(high, 3))
}

/// Builds the table of differences, a row per run that is compared with the reference.
fn differences(table: &RunTable, tasks: &[&str]) -> Table {
    let mut header = ["run", "actions", "score"].map(str::to_owned).to_vec();
    header.extend(tasks.iter().map(|task| words(task)));
    let mut shown = new_table(presets::UTF8_HORIZONTAL_ONLY, header, 1);
    let below = |value: &Difference| format!("{}\n{}", marked(value), range(value.interval));
    for pair in &table.differences {
        let mut row = vec![table.runs[pair.run].name.clone(), pair.actions.to_string()];
        row.push(below(&pair.score));
        row.extend(tasks.iter().map(|task| {
            let difference = pair.tasks.iter().find(|difference| difference.task == *task);
            difference.map_or_else(dash, |difference| below(&difference.balanced_accuracy))
        }));
        shown.add_row(row);
    }
    shown
}

/// Builds the table of recalls per class of a task: with two runs, a row per class; with more, a row
/// per run below each class.
fn classes(table: &RunTable, task: &str) -> Table {
    let header = ["class", "actions", "reference", "run", "difference", "95 % interval"];
    let mut shown = new_table(presets::NOTHING, header.map(str::to_owned).to_vec(), 1);
    let several = table.runs.len() > 2;
    for (class, rows) in table.classes(task) {
        if several {
            shown.add_row([class]);
        }
        for (run, recalls) in rows {
            let share = |share: Option<f64>| share.map_or_else(dash, |share| format!("{share:.3}"));
            // Plain spaces are lost when a name is broken into lines.
            let name = || format!("\u{a0}\u{a0}{}", table.runs[run].name);
            shown.add_row([
                if several { name() } else { class.to_owned() },
                recalls.actions.to_string(),
                share(recalls.reference),
                share(recalls.recall),
                recalls.difference.as_ref().map_or_else(dash, marked),
                recalls.difference.map_or_else(dash, |difference| range(difference.interval)),
            ]);
        }
    }
    shown
}

/// Builds the table of differing options: options in rows and runs in columns, or the other way round
/// if there are more runs than options.
fn options(table: &RunTable) -> Table {
    let value =
        |option: &DifferingOption, run: usize| option.values[run].clone().unwrap_or_else(dash);
    let runs: Vec<String> = table.runs.iter().map(|run| run.name.clone()).collect();
    let names: Vec<String> = table.options.iter().map(|option| option.option.clone()).collect();
    let by_option = names.len() >= runs.len();
    let (title, rows, columns) =
        if by_option { ("option", names, runs) } else { ("run", runs, names) };
    let header = [title.to_owned()].into_iter().chain(columns.iter().cloned()).collect();
    let mut shown = new_table(presets::UTF8_HORIZONTAL_ONLY, header, 1);
    for (row, name) in rows.into_iter().enumerate() {
        let values = (0..columns.len()).map(|column| {
            let (option, run) = if by_option { (row, column) } else { (column, row) };
            value(&table.options[option], run)
        });
        shown.add_row([name].into_iter().chain(values));
    }
    shown
}
