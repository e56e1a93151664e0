//! `polyview evaluate`: metrics of a checkpoint on a split, or of a prediction file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::out_file::{check_writable, protect_checkpoint, protect_data_set, protect_other_file};
use super::trained::{Trained, TrainedArgs};
use super::visible::visible_line;
use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::data::Dataset;
use crate::data::source::Format;
use crate::evaluate::{
    Decided, Interval, SplitMetrics, TaskIntervals, TaskMetrics, are_predictions,
};
use crate::metrics::{MOST_CONFUSIONS, MOST_IN_MATRIX, confusions};
use crate::options::{choice, whole};
use crate::units::{metric, plural};

mod divided;
mod official;
mod predicted;

use predicted::Predicted;

/// Options that have a meaning when a prediction file is evaluated; all others are about a network.
const OF_A_FILE: [&str; 3] = ["ground_truth", "predictions", "json"];

/// Makes `--ground-truth` refuse every option of `evaluate` that it would ignore.
pub(super) fn refuse_ignored(evaluate: clap::Command) -> clap::Command {
    let ids = evaluate.get_arguments().map(|option| option.get_id().clone());
    let ignored: Vec<_> = ids.filter(|id| !OF_A_FILE.contains(&id.as_str())).collect();
    evaluate.mut_arg("ground_truth", |option| option.conflicts_with_all(ignored))
}

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// The data set: mvfouls/{train,valid,…}, a folder of clips per class, a table or lists
    #[arg(long, value_name = "DIR", required_unless_present = "ground_truth")]
    dataset_root: Option<PathBuf>,
    /// How the data set lists its actions [default: detected]
    #[arg(long, value_name = "NAME", value_parser = choice::<Format>())]
    format: Option<Format>,
    /// Split to evaluate
    #[arg(long, value_name = "NAME", default_value = "test")]
    split: String,
    /// With a checkpoint: write the predictions here, as a table (.csv) or in the format of SoccerNet's
    /// evaluator. With --ground-truth: the predictions to evaluate
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Annotations of SoccerNet-MVFoul to evaluate a prediction file against, without a network
    #[arg(long, value_name = "FILE", requires = "predictions")]
    ground_truth: Option<PathBuf>,
    /// Wrong predictions to list per task
    #[arg(long, value_name = "N", value_parser = whole, default_value_t = 5)]
    mistakes: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    // Last, because options after it would be listed under its headings.
    #[command(flatten)]
    trained: TrainedArgs,
}

impl EvaluateArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        if let (Some(truth), Some(predictions)) = (&self.ground_truth, &self.predictions) {
            return official::evaluate_file(truth, predictions, self.json);
        }
        let Some(checkpoint) = &self.trained.checkpoint else {
            return Err(Failure::usage(
                "--checkpoint is required (or --predictions with --ground-truth)",
            ));
        };
        let Some(root) = &self.dataset_root else {
            return Err(Failure::usage("--dataset-root is required with --checkpoint"));
        };
        self.evaluate_split(checkpoint, root, terminal)
    }

    fn evaluate_split(&self, checkpoint: &Path, root: &Path, terminal: &Terminal) -> CommandResult {
        if let Some(path) = &self.predictions {
            check_writable("--predictions", path)?;
            protect_checkpoint("--predictions", path, checkpoint)?;
        }
        let trained = self.trained.open(checkpoint)?;
        let dataset = self.open_split(root, &trained)?;
        terminal.line(&format!(
            "{}; {} split: {}, {}",
            trained.describe(),
            dataset.split,
            plural(dataset.samples.len(), "action"),
            plural(dataset.views(), "view")
        ));
        let predicted = Predicted::predict(trained, dataset, terminal)?;
        let file = predicted.file()?;
        if let Some(path) = &self.predictions {
            predicted.write(path, &file)?;
            terminal.line(&format!("predictions: {}", path.display()));
        }
        self.print(&predicted, &file, terminal)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Opens the split to evaluate. Refuses to write predictions over its files.
    fn open_split(&self, root: &Path, trained: &Trained) -> Result<Dataset, Failure> {
        let Trained { info, input, schema, .. } = trained;
        let source = divided::open(root, self.format, schema, info, &self.split)?;
        source.notes().iter().for_each(|note| log::info!("{note}"));
        let (window, size, views) = (input.window, input.size, input.max_views);
        let dataset = Dataset::of_source(&source, &self.split, window, size, views)?;
        if let Some(path) = &self.predictions {
            protect_data_set("--predictions", path, &source)?;
            protect_other_file("--predictions", path, "a file of predictions", are_predictions)?;
        }
        Ok(dataset)
    }

    /// Prints the metrics of the predictions, whose file is `file`.
    fn print(
        &self,
        predicted: &Predicted,
        file: &Value,
        terminal: &Terminal,
    ) -> Result<(), Failure> {
        let Some(metrics) = predicted.metrics(self.trained.min_confidence, self.mistakes)? else {
            terminal.line("the split has no labels, so there are no metrics");
            return if self.json { print_json(&predicted.json(None, None)) } else { Ok(()) };
        };
        let official = predicted.official(file)?;
        if self.json {
            return print_json(&predicted.json(Some(&metrics), official.as_ref()));
        }
        let mut text = metrics_text(&metrics);
        if let Some(official) = &official {
            let _ = write!(text, "\n\n{}", official::text(official));
        }
        print_text(&text)
    }
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn metrics_text(metrics: &SplitMetrics) -> String {
    let mut text = String::new();
    for task in &metrics.tasks {
        let of =
            |interval: fn(&TaskIntervals) -> Interval| range(task.intervals.as_ref().map(interval));
        let _ = writeln!(
            text,
            "{}: accuracy {}{}, balanced accuracy {}{}, F1 weighted {}, macro {}{}",
            visible_line(&task.task),
            metric(task.accuracy),
            of(|all| all.accuracy),
            metric(task.balanced_accuracy),
            of(|all| all.balanced_accuracy),
            metric(task.f1_weighted),
            metric(task.f1_macro),
            of(|all| all.f1_macro)
        );
        let _ = writeln!(text, "calibration error {}", metric(task.ece));
        if let Some(Decided { share, accuracy, balanced_accuracy }) = task.decided {
            let _ = match share {
                None => writeln!(text, "decided: –"),
                Some(0.0) => writeln!(text, "decided: none of the actions"),
                Some(share) => writeln!(
                    text,
                    "decided: {:.0} % of the actions, accuracy {}, balanced accuracy {}",
                    share * 100.0,
                    metric(accuracy),
                    metric(balanced_accuracy)
                ),
            };
        }
        let _ = writeln!(text, "{}\n{}", classes(task), confusion(task));
        for mistake in &task.mistakes {
            let _ = writeln!(
                text,
                "  action {}: {} predicted as {} ({:.0} %)",
                visible_line(&mistake.action),
                visible_line(&mistake.label),
                visible_line(&mistake.predicted),
                mistake.probability * 100.0
            );
        }
        text.push('\n');
    }
    let interval = range(metrics.score_interval);
    let actions = plural(metrics.actions, "action");
    let score = metrics.score.map_or_else(|| "–".to_owned(), |score| format!("{score:.4}"));
    let _ = write!(text, "score {score}{interval} over {actions}");
    if !interval.is_empty() {
        text.push_str("; 95 % confidence intervals in brackets");
    }
    text
}

/// Formats an interval in brackets; empty without one.
fn range(interval: Option<Interval>) -> String {
    interval.map_or_else(String::new, |Interval { low, high }| format!(" ({low:.3} to {high:.3})"))
}

fn classes(task: &TaskMetrics) -> Table {
    let header = ["class", "precision", "recall", "F1", "actions"];
    let mut table = table(header.map(str::to_owned).to_vec());
    for (name, class) in &task.classes {
        let mut row = vec![visible_line(name).into_owned()];
        row.extend(class.defined().map(metric));
        row.push(class.support.to_string());
        table.add_row(row);
    }
    table
}

/// Builds the confusion matrix or, for many classes, the table of the most frequent confusions.
fn confusion(task: &TaskMetrics) -> Table {
    if task.classes.len() > MOST_IN_MATRIX {
        let header = ["most frequent confusions: actual", "predicted", "actions"];
        let mut table = table(header.map(str::to_owned).to_vec());
        for ([label, prediction], count) in confusions(&task.confusion, MOST_CONFUSIONS) {
            let [label, prediction] =
                [label, prediction].map(|class| visible_line(&task.classes[class].0).into_owned());
            table.add_row([label, prediction, count.to_string()]);
        }
        return table;
    }
    let mut header = vec!["actual ↓, predicted →".to_owned()];
    header.extend((0..task.classes.len()).map(|class| class.to_string()));
    let mut table = table(header);
    for (class, ((name, _), row)) in task.classes.iter().zip(&task.confusion).enumerate() {
        let mut cells = vec![format!("{class} {}", visible_line(name))];
        cells.extend(row.iter().map(u64::to_string));
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::{command, usage};

    #[test]
    fn options_of_a_network_are_refused_for_a_prediction_file() {
        let command = command();
        let evaluate = command.find_subcommand("evaluate").expect("the command exists");
        let file = ["polyview", "evaluate", "--ground-truth", "a.json", "--predictions", "b.json"];
        let mut refused = 0;
        for option in evaluate.get_arguments() {
            if OF_A_FILE.contains(&option.get_id().as_str()) {
                continue;
            }
            let name = format!("--{}", option.get_long().expect("every option has a long name"));
            let takes_value = option.get_action().takes_values();
            // One of these is a valid value.
            let values = ["3", "0.5", "112", "auto", "folders", "dense", "x"];
            let (args, error) = values
                .iter()
                .find_map(|value| {
                    let typed = [name.as_str(), value];
                    let typed = if takes_value { &typed[..] } else { &typed[..1] };
                    let args: Vec<OsString> = file.iter().chain(typed).map(Into::into).collect();
                    let error = command.clone().try_get_matches_from(&args).err()?;
                    let is_valid = !matches!(
                        error.kind(),
                        ErrorKind::ValueValidation | ErrorKind::InvalidValue
                    );
                    is_valid.then_some((args, error))
                })
                .unwrap_or_else(|| panic!("{name} is accepted"));
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{name}: {error}");
            let line = usage::one_line(&error, &args, &command);
            assert_eq!(line, format!("--ground-truth: cannot be used with {name}"));
            refused += 1;
        }
        assert!(refused > 20, "{refused}");
    }
}
