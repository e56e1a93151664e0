//! `polyview evaluate`: metrics of a checkpoint on a split, or of a prediction file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::advice::output_failure;
use super::out_file::{check_writable, protect_checkpoint, protect_data_set, protect_other_file};
use super::trained::{Trained, TrainedArgs, averaged};
use super::visible::visible_line;
use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::atomic_file::linked;
use crate::checkpoint::write_text;
use crate::data::Dataset;
use crate::data::json::{Json, parse};
use crate::data::source::Format;
use crate::evaluate::official::{self, Evaluation};
use crate::evaluate::{
    Decided, Interval, SplitMetrics, TaskIntervals, TaskMetrics, are_predictions, predict_dataset,
    predictions_csv, split_metrics, write_predictions,
};
use crate::half::Precision;
use crate::metrics::{MOST_CONFUSIONS, MOST_IN_MATRIX, confusions};
use crate::options::{choice, whole};
use crate::units::{metric, plural};

mod divided;

/// Options that have no meaning when a prediction file is evaluated.
const NETWORK_OPTIONS: [&str; 12] = [
    "checkpoint",
    "dataset_root",
    "format",
    "split",
    "mistakes",
    "schema",
    "uncalibrated",
    "class_thresholds",
    "min_confidence",
    "test_clips",
    "test_crops",
    "flip_test",
];

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
    /// Annotations to evaluate a prediction file against, without a network
    #[arg(long, value_name = "FILE", requires = "predictions")]
    #[arg(conflicts_with_all = NETWORK_OPTIONS)]
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
            let (truth, predictions) = (read(truth)?, read(predictions)?);
            for oddity in official::oddities(&truth, &predictions) {
                log::warn!("{oddity}");
            }
            let evaluation = official::evaluate(&truth, &predictions);
            if self.json {
                print_json(&official_json(&evaluation))?;
            } else {
                print_text(&official_text(&evaluation))?;
            }
            return Ok(ExitCode::SUCCESS);
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
        let about = trained.describe();
        let Trained { net, info, input, schema, compute, options, .. } = trained;
        let source = divided::open(root, self.format, &schema, &info, &self.split)?;
        let (split, views) = (&self.split, input.max_views);
        let dataset = Dataset::of_source(&source, split, input.window, input.size, views);
        let dataset = Arc::new(dataset?.tolerating_unreadable());
        if let Some(path) = &self.predictions {
            protect_data_set("--predictions", path, &source)?;
            protect_other_file("--predictions", path, "a file of predictions", are_predictions)?;
        }
        terminal.line(&format!(
            "{about}; {} split: {}, {}",
            dataset.split,
            plural(dataset.samples.len(), "action"),
            plural(dataset.views(), "view")
        ));
        let bar = terminal.counter("actions");
        bar.set_length((dataset.samples.len() * options.averaging.passes()) as u64);
        let mut progress = |actions, _| bar.set_position(actions as u64);
        let predicted = predict_dataset(&net, &dataset, &options, &compute.device, &mut progress);
        bar.finish_and_clear();
        let predicted = predicted?;
        let unreadable = dataset.unreadable().len();
        if unreadable > 0 {
            log::warn!(
                "{unreadable} of the {} views of the {} split cannot be read; the results are for the others",
                dataset.views(),
                dataset.split
            );
        }
        let (averaged, note) = averaged(&predicted);
        note.iter().for_each(|note| terminal.line(note));
        let labels: Vec<Vec<usize>> = predicted
            .iter()
            .map(|action| (0..schema.tasks.len()).map(|task| action.predicted(task)).collect())
            .collect();
        let pairs = predicted.iter().zip(&labels).map(|(p, l)| (p.action.as_str(), l.as_slice()));
        let predictions =
            write_predictions(&schema, &dataset.split, pairs).map_err(Failure::runtime)?;
        if let Some(path) = &self.predictions {
            let is_table = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
            let written = if is_table {
                write_text(&linked(path), predictions_csv(&schema, &predicted))
            } else {
                write_text(&linked(path), serde_json::to_string_pretty(&predictions))
            };
            written.map_err(|error| output_failure("--predictions", &error))?;
            terminal.line(&format!("predictions: {}", path.display()));
        }
        let report = |figures: Option<&SplitMetrics>| {
            json!({
                "split": dataset.split,
                "device": compute.info,
                "precision": Precision::of(net.backbone.is_half()),
                "averaged": averaged,
                "unreadable_views": unreadable,
                "figures": figures,
            })
        };
        if !dataset.annotations.labelled {
            terminal.line("the split has no labels, so there are no metrics");
            if self.json {
                print_json(&report(None))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut metrics = split_metrics(&schema, &predicted, self.trained.min_confidence)
            .map_err(Failure::runtime)?;
        for task in &mut metrics.tasks {
            task.mistakes.truncate(self.mistakes);
        }
        // The leaderboard's rules apply to its own data set only.
        let official = match &dataset.annotations.file {
            Some(truth) if schema.official => Some(official::evaluate(&read(truth)?, &predictions)),
            _ => None,
        };
        if self.json {
            let mut value = report(Some(&metrics));
            if let Some(official) = &official {
                value["official"] = official_json(official);
            }
            print_json(&value)?;
        } else {
            let mut text = metrics_text(&metrics);
            if let Some(official) = &official {
                let _ = write!(text, "\n\n{}", official_text(official));
            }
            print_text(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(path: &Path) -> Result<Value, Failure> {
    let fail = |error: String| Failure::runtime(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let is_table = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let parsed = parse::<Json>(&bytes).map_err(|error| match is_table {
        true => fail(
            "predictions and annotations of SoccerNet's evaluator are JSON, and this is a table; give a \
             file that `evaluate --checkpoint FILE --predictions NAME.json` wrote"
                .to_owned(),
        ),
        false => fail(error.to_string()),
    })?;
    for oddity in parsed.oddities {
        log::warn!("{}: {oddity}", path.display());
    }
    Ok(parsed.value.into())
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

fn official_text(evaluation: &Evaluation) -> String {
    let mut table = table(
        ["official evaluator, %", "official", "over the classes that occur"]
            .map(str::to_owned)
            .to_vec(),
    );
    let over_occurring = evaluation.over_occurring.named();
    for (index, (name, value)) in over_occurring.iter().enumerate() {
        let official = match &evaluation.official {
            Ok(scores) => format!("{:.6}", scores.named()[index].1),
            Err(_) => "exception".to_owned(),
        };
        table.add_row([(*name).to_owned(), official, format!("{value:.6}")]);
    }
    let mut text = table.to_string();
    if let Err(error) = &evaluation.official {
        let _ = write!(text, "\nthe official evaluator raises an exception: {error}");
    }
    for note in &evaluation.notes {
        let _ = write!(text, "\n{note}");
    }
    if !evaluation.not_predicted.is_empty() {
        let actions = plural(evaluation.not_predicted.len(), "action");
        let _ = write!(text, "\n{actions} without a prediction, counted as wrong");
    }
    text
}

/// Returns the official figures as JSON, in which NaN becomes null.
fn official_json(evaluation: &Evaluation) -> Value {
    let scores = |scores: &official::Scores| -> Value {
        scores.named().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    };
    let official = match &evaluation.official {
        Ok(values) => scores(values),
        Err(error) => json!({ "exception": error.to_string() }),
    };
    json!({
        "official": official,
        "over_occurring": scores(&evaluation.over_occurring),
        "notes": evaluation.notes,
        "not_predicted": evaluation.not_predicted,
    })
}
