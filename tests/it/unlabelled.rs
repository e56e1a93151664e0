//! A task of which the validation split has no labels: what is unknown is not shown as 0 %.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::data::{clip, small_set};
use crate::common::program::{command, text, train};

/// A table of clips with the tasks `a` and `b`; no action of the validation split has a label for `b`.
fn table(folder: &Path) -> PathBuf {
    let (clips, root) = (folder.join("clips"), folder.join("data"));
    small_set(&clips);
    let mut lines = "path,action,split,a,b\n".to_owned();
    for action in 0..12 {
        let (split, b) = match action {
            0..8 => ("train", ["l", "r"][action / 2 % 2]),
            _ => ("valid", ""),
        };
        let (path, a) = (clip(&clips, action, 0), ["x", "y"][action % 2]);
        writeln!(lines, "{},{action},{split},{a},{b}", path.display()).unwrap();
    }
    fs::create_dir(&root).unwrap();
    fs::write(root.join("manifest.csv"), lines).unwrap();
    root
}

fn printed(command: &mut std::process::Command) -> [String; 2] {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    [text(&output.stdout), text(&output.stderr)]
}

#[test]
fn a_task_without_labels_has_dashes_and_empty_fields() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (table(folder.path()), folder.path().join("run"));
    let [_, log] = printed(&mut train(&data, &save, &["--epochs=1"]));
    let advice =
        "advice: no action of the valid split has a label for b: it has no validation metrics";
    assert_eq!(log.matches(advice).count(), 1, "{log}");
    assert!(!log.contains("train split has a label"), "{log}");
    for shown in ["  b –  score ", "  b: balanced accuracy –, accuracy –, macro F1 –\n"] {
        assert!(log.contains(shown), "{shown:?} is not in {log}");
    }

    let page = fs::read_to_string(save.join("report.html")).unwrap();
    for shown in [
        "<dt>b</dt><dd><b>–</b><small>no labelled actions</small>",
        "<dt>Weighted F1</dt><dd>–</dd>",
        "<dt>Calibration error</dt><dd>–</dd>",
    ] {
        assert!(page.contains(shown), "{shown:?} is not in {page}");
    }

    let metrics = fs::read_to_string(save.join("metrics.csv")).unwrap();
    let [names, values] = [0, 1].map(|line| metrics.lines().nth(line).unwrap().split(','));
    let fields: Vec<(&str, &str)> = names.zip(values).collect();
    let empty: Vec<&str> =
        fields.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| *name).collect();
    let expected = ["loss", "accuracy", "balanced_accuracy", "f1_weighted", "f1_macro"];
    assert_eq!(empty, expected.map(|metric| format!("{metric}/b/valid")));

    // Older versions read it, too.
    let history: Value =
        serde_json::from_slice(&fs::read(save.join("history.json")).unwrap()).unwrap();
    let record = &history[0]["valid"]["tasks"][1];
    assert_eq!((&record["accuracy"], &record["loss"]), (&json!(0.0), &json!(0.0)));
}

#[test]
fn evaluate_has_no_figures_of_a_task_without_labels() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (table(folder.path()), folder.path().join("run"));
    printed(&mut train(&data, &save, &["--epochs=1"]));
    let evaluate = |more: &[&str]| {
        let mut command = command(&["evaluate", "--device=cpu", "--split=valid"]);
        command.args(more).arg("--checkpoint").arg(&save).arg("--dataset-root").arg(&data);
        let [shown, _] = printed(&mut command);
        shown
    };
    let shown = evaluate(&["--min-confidence=0"]);
    let lines = "\nb: accuracy –, balanced accuracy –, F1 weighted –, macro –\ncalibration error –\n\
                 decided: –\n";
    assert!(shown.contains(lines), "{shown}");

    let report: Value = serde_json::from_str(&evaluate(&["--json", "--min-confidence=0"])).unwrap();
    let [a, b] = [0, 1].map(|task| &report["figures"]["tasks"][task]);
    for metric in ["accuracy", "balanced_accuracy", "f1_weighted", "f1_macro", "ece"] {
        assert!(a[metric].is_f64() && b.get(metric) == Some(&Value::Null), "{metric}: {report}");
    }
    let nothing = json!({ "share": null, "accuracy": null, "balanced_accuracy": null });
    assert_eq!((&a["decided"]["share"], &b["decided"]), (&json!(1.0), &nothing));
    let class =
        json!({ "precision": null, "recall": null, "f1": null, "support": 0, "predicted": 0 });
    assert_eq!(b["classes"][0], json!(["l", class]));
    assert_eq!(report["figures"]["score"], a["balanced_accuracy"]);
    // Nothing is decided with more than certainty.
    let report: Value = serde_json::from_str(&evaluate(&["--json", "--min-confidence=1"])).unwrap();
    let nothing = json!({ "share": 0.0, "accuracy": null, "balanced_accuracy": null });
    assert_eq!(report["figures"]["tasks"][0]["decided"], nothing);
}
