//! Names that reverse the direction of the text around them, or that contain line breaks.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{command, text, train};

#[test]
fn evaluate_escapes_names_and_shows_undefined_values_as_a_dash() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let schema = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/mvfoul.toml"));
    // All action classes.
    let schema = schema.unwrap();
    let names = ["Standing tackling", "Tackling", "Holding", "Pushing", "Challenge", "Dive"];
    let names = [&names[..], &["High leg", "Elbowing"]].concat();
    let odd = names.iter().fold(schema, |schema, name| {
        let from = format!("{{ name = \"{name}\" }}");
        let fits = format!("match = {{ \"Action class\" = [\"{name}\"] }}");
        let to = format!("{{ name = \"{name}\\u202E\\n=\", {fits} }}");
        assert!(schema.contains(&from), "{name}");
        schema.replace(&from, &to)
    });
    let path = folder.path().join("odd.toml");
    fs::write(&path, odd).unwrap();
    let save = folder.path().join("run");
    let mut train = train(&data, &save, &["--epochs", "1", "--schema"]);
    let output = train.arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let evaluate = |more: &[&str]| {
        let mut evaluate = command(&["evaluate", "--device", "cpu", "--mistakes", "99"]);
        evaluate.args(more).arg("--checkpoint").arg(save.join("best.safetensors"));
        let output = evaluate.arg("--dataset-root").arg(&data).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let shown = evaluate(&[]);
    assert!(!shown.contains('\u{202e}') && !shown.contains("\n="), "{shown}");
    let json: Value = serde_json::from_str(&evaluate(&["--json"])).unwrap();
    let task = &json["figures"]["tasks"][1];
    let as_shown = |name: &Value| name.as_str().unwrap().escape_default().to_string();
    for mistake in task["mistakes"].as_array().unwrap() {
        let [label, predicted] = ["label", "predicted"].map(|key| as_shown(&mistake[key]));
        let line = format!("{label} predicted as {predicted} (");
        assert!(shown.contains(&line), "{line} is not in {shown}");
    }
    let mut undefined = 0;
    for class in task["classes"].as_array().unwrap() {
        let name = as_shown(&class[0]);
        let line = shown.lines().map(str::trim_start).find(|line| line.starts_with(&name)).unwrap();
        let dash = line[name.len()..].split_whitespace().next() == Some("–");
        assert_eq!(dash, class[1]["predicted"] == 0, "{line}");
        undefined += usize::from(dash);
    }
    assert!(undefined > 0, "{shown}");
}
