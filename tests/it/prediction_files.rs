//! `evaluate --ground-truth`: which files it takes.

use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::program::{last_error, polyview, text};

/// Evaluates two files with the program.
fn evaluate_files(folder: &TempDir, annotations: &str, predictions: &str) -> Output {
    let [truth, predicted] =
        ["annotations.json", "predictions.json"].map(|name| folder.path().join(name));
    std::fs::write(&truth, annotations).unwrap();
    std::fs::write(&predicted, predictions).unwrap();
    let [truth, predicted] = [&truth, &predicted].map(|path| path.to_str().unwrap());
    polyview(&["evaluate", "--json", "--ground-truth", truth, "--predictions", predicted])
}

const MVFOUL: &str =
    r#"{"Actions": {"7": {"Action class": "Dive", "Offence": "No offence", "Severity": ""}}}"#;

#[test]
fn files_of_another_data_set_are_refused() {
    let folder = TempDir::new().unwrap();
    let other = r#"{"Set": "test", "Actions": {"7": {"hand": "left"}}}"#;
    for (annotations, predictions, named) in
        [(other, other, "annotations.json"), (MVFOUL, other, "predictions.json")]
    {
        let output = evaluate_files(&folder, annotations, predictions);
        assert_eq!(output.status.code(), Some(1));
        let error = last_error(&output);
        for word in [named, "only files of SoccerNet-MVFoul", "--checkpoint"] {
            assert!(error.contains(word), "{word:?} is not in {error}");
        }
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn the_last_prediction_of_an_action_counts_and_the_action_is_named() {
    let folder = TempDir::new().unwrap();
    let wrong =
        r#""7": {"Action class": "Tackling", "Offence": "No offence", "Severity": ""}, "7""#;
    let output = evaluate_files(&folder, MVFOUL, &MVFOUL.replace(r#""7""#, wrong));
    let errors = text(&output.stderr);
    assert!(errors.contains("predictions.json: action \"7\" occurs twice"), "{errors}");
    assert!(!errors.contains("annotations.json"), "{errors}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["official"]["accuracy_action"], 100.0);
}
