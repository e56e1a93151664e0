//! SoccerNet's official metrics of prediction files.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::table;
use crate::cli::{CommandResult, Failure, print_json, print_text};
use crate::data::json::{Json, parse};
use crate::evaluate::official::{Evaluation, Scores, evaluate, has_labels, inconsistencies};
use crate::units::plural;

/// Evaluates a prediction file against annotations and prints the result.
pub(super) fn evaluate_file(truth: &Path, predictions: &Path, as_json: bool) -> CommandResult {
    let [truth, predictions] = [read_mvfoul(truth)?, read_mvfoul(predictions)?];
    for oddity in inconsistencies(&truth, &predictions) {
        log::warn!("{oddity}");
    }
    let evaluation = evaluate(&truth, &predictions);
    if as_json {
        print_json(&json(&evaluation))?;
    } else {
        print_text(&text(&evaluation))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Evaluates predictions against an annotation file.
pub(super) fn against(truth: &Path, predictions: &Value) -> Result<Evaluation, Failure> {
    Ok(evaluate(&read(truth)?.into(), predictions))
}

/// Reads a file with predictions or annotations of SoccerNet-MVFoul. Warns about actions that occur
/// twice.
fn read_mvfoul(path: &Path) -> Result<Value, Failure> {
    let file = read(path)?;
    for id in repeated_actions(&file) {
        log::warn!(
            "{}: action {id:?} occurs twice; as in SoccerNet's evaluator, only the last entry counts",
            path.display()
        );
    }
    let file = Value::from(file);
    if !has_labels(&file) {
        return Err(Failure::runtime(format!(
            "{}: no action has \"Action class\", \"Offence\" or \"Severity\", which SoccerNet's evaluator reads: \
             only files of SoccerNet-MVFoul are evaluated without a network; for another data set, give \
             --checkpoint and --dataset-root",
            path.display()
        )));
    }
    Ok(file)
}

/// Returns the ids that occur more than once, each once, in file order.
fn repeated_actions(file: &Json) -> Vec<&str> {
    let actions = file.as_object().and_then(|file| file.get("Actions")).and_then(Json::as_object);
    let (mut seen, mut repeated) = (HashSet::new(), Vec::new());
    for id in actions.into_iter().flat_map(|actions| actions.keys()) {
        if !seen.insert(id) && !repeated.contains(&id) {
            repeated.push(id);
        }
    }
    repeated
}

fn read(path: &Path) -> Result<Json, Failure> {
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
    Ok(parsed.value)
}

/// Formats the figures as a table, with notes on those that are not numbers.
pub(super) fn text(evaluation: &Evaluation) -> String {
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

/// Returns the figures as JSON, in which NaN becomes null.
pub(super) fn json(evaluation: &Evaluation) -> Value {
    let scores = |scores: &Scores| -> Value {
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
