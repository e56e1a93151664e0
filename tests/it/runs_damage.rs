//! Damaged or incomplete runs, and folders that are not runs: one line each.

use std::path::Path;

use polyview::runs::RunTable;
use polyview::schema::Schema;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::program::{polyview, text};
use crate::common::runs::{predictions, read, write};

/// Writes two runs of two epochs, `one` and `two`.
fn two_runs(root: &Path) {
    let schema = Schema::mvfoul().unwrap();
    let epochs =
        [3, 2].map(|rare| predictions(&schema, 40, |action, _| action % rare == 0)).to_vec();
    write(&root.join("one"), "", &schema, &epochs);
    write(&root.join("two"), "--seed 7", &schema, &epochs);
}

/// Runs `polyview compare` on these folders; returns exit status, stdout and stderr.
fn compare(root: &Path, folders: &[&str], more: &[&str]) -> (Option<i32>, String, String) {
    let folders: Vec<String> =
        folders.iter().map(|name| root.join(name).to_str().unwrap().to_owned()).collect();
    let mut args = vec!["compare"];
    args.extend(folders.iter().map(String::as_str));
    args.extend(more);
    let output = polyview(&args);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn damaged_files_are_named_in_one_line() {
    /// File of the second run, how its text is damaged, and the words of the error.
    type Case = (&'static str, fn(String) -> String, &'static [&'static str]);
    let cases: &[Case] = &[
        ("history.json", |text| text[..text.len() / 2].to_owned(), &["line 1"]),
        ("history.json", |_| "{}".to_owned(), &["expected a sequence"]),
        ("history.json", |text| text.replace("\"score\"", "\"points\""), &["score"]),
        ("config.toml", |text| text + "\nlr = = 3\n", &["line "]),
        ("config.toml", |text| text.replace("seed = 7", "seed = \"many\""), &["many"]),
        ("valid_predictions.csv", |_| String::new(), &["not a table of predictions"]),
        ("valid_predictions.csv", |_| "action,score\n1,2\n".to_owned(), &["line 1", "TASK_label"]),
        (
            "valid_predictions.csv",
            |text| text[..text.len() - 40].to_owned(),
            &["line 41", "columns"],
        ),
        ("valid_predictions.csv", |text| text.replacen("\n1,", "\n0,", 1), &["line 3", "twice"]),
        (
            "valid_predictions.csv",
            |text| text.replacen("\n4,No offence,", "\n4,Offence,", 1),
            &["line 6", "\"Offence\" is not a class of offence_severity"],
        ),
    ];
    let folder = TempDir::new().unwrap();
    for (number, (file, damage, words)) in cases.iter().enumerate() {
        let root = folder.path().join(number.to_string());
        two_runs(&root);
        let path = root.join("two").join(file);
        let whole = std::fs::read_to_string(&path).unwrap();
        let damaged = damage(whole.clone());
        assert_ne!(damaged, whole, "case {number} damages nothing");
        std::fs::write(&path, damaged).unwrap();
        let (status, out, error) = compare(&root, &["one", "two"], &[]);
        assert_eq!((status, out.as_str(), error.lines().count()), (Some(1), "", 1), "{error}");
        for word in words.iter().chain(&[*file, "cannot be understood", "leave this run out"]) {
            assert!(error.contains(word), "case {number}: {word:?} is not in {error}");
        }
    }
    let root = folder.path().join("0");
    two_runs(&root);
    std::fs::remove_file(root.join("two/config.toml")).unwrap();
    let (status, _, error) = compare(&root, &["one", "two"], &[]);
    assert_eq!((status, error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.contains("config.toml: cannot be read"), "{error}");
}

#[test]
fn a_damaged_run_in_a_folder_of_runs_is_left_out() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("sweep");
    two_runs(&root);
    let schema = Schema::mvfoul().unwrap();
    let epoch = predictions(&schema, 40, |action, _| action % 5 == 0);
    write(&root.join("three"), "", &schema, &[epoch]);
    std::fs::write(root.join("one/history.json"), "[{").unwrap();
    let (status, out, error) = compare(&root, &["."], &["--json"]);
    assert_eq!((status, error.as_str()), (Some(0), ""));
    let found: Value = serde_json::from_str(&out).unwrap();
    let names = found["runs"].as_array().unwrap().iter().map(|run| run["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["three", "two"]);
    let notes = found["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    let note = notes[0].as_str().unwrap();
    assert!(note.starts_with("left out: ") && note.contains("one/history.json"), "{note}");
    assert!(compare(&root, &["."], &[]).1.contains("one/history.json: cannot be understood"));

    // An error if the run is given explicitly, or if there is nothing to compare without it.
    let (status, out, error) = compare(&root, &[".", "one"], &[]);
    assert_eq!((status, out.as_str(), error.lines().count()), (Some(1), "", 1), "{error}");
    std::fs::remove_dir_all(root.join("three")).unwrap();
    let (status, out, error) = compare(&root, &["."], &[]);
    assert_eq!((status, out.as_str(), error.lines().count()), (Some(1), "", 1), "{error}");
    assert!(error.contains("one/history.json: cannot be understood"), "{error}");
}

#[test]
fn folders_that_are_not_runs_and_too_few_runs_are_refused() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    two_runs(root);
    std::fs::create_dir(root.join("none")).unwrap();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["one", "none"], 1, "none: is not the folder of a run"),
        (&["one", "gone"], 1, "gone: cannot be read"),
        (&["one"], 2, "two runs or more, but there is 1"),
        (&["one", "one"], 2, "two runs or more, but there is 1"),
    ];
    for (folders, expected, words) in cases {
        let (status, out, error) = compare(root, folders, &[]);
        assert_eq!((status, out.as_str(), error.lines().count()), (Some(expected), "", 1));
        assert!(error.contains(words), "{error}");
    }
    // Refused before anything is read; a page does not overwrite a run's file.
    for (page, words) in [
        ("none/deeper/page.html", "there is no folder"),
        ("one/config.toml", "must end with .html"),
    ] {
        let page = root.join(page);
        let out = ["--out", page.to_str().unwrap()];
        let (status, out, error) = compare(root, &["one", "two"], &out);
        assert_eq!((status, out.as_str(), error.lines().count()), (Some(2), "", 1), "{error}");
        assert!(error.contains("--out") && error.contains(words), "{error}");
    }
}

#[test]
fn a_run_without_predictions_is_compared_without_intervals() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    two_runs(root);
    let table = || RunTable::new(&read(&[root.join("one"), root.join("two")])).unwrap();
    assert!(table().notes.is_empty() && table().differences.len() == 1);

    // Predictions of an epoch that is not the best: the run was killed, or is just writing.
    let predictions = root.join("two/valid_predictions.csv");
    let history = std::fs::read_to_string(root.join("two/history.json")).unwrap();
    let mut later: Vec<Value> = serde_json::from_str(&history).unwrap();
    assert_eq!([&later[0]["best"], &later[1]["best"]], [true, false]);
    later[1]["best"] = true.into();
    std::fs::write(root.join("two/history.json"), serde_json::to_string(&later).unwrap()).unwrap();
    let found = table();
    assert_eq!(
        found.notes,
        ["two: valid_predictions.csv is not from epoch 2, the best in history.json"]
    );
    assert!(found.differences.is_empty() && found.runs[1].score_interval.is_none());
    std::fs::write(root.join("two/history.json"), &history).unwrap();

    std::fs::remove_file(&predictions).unwrap();
    let found = table();
    assert_eq!(
        found.notes,
        ["two: has no valid_predictions.csv, which older versions did not write"]
    );
    assert!(found.runs[0].score_interval.is_some() && found.runs[1].score.is_some());
    // The same run as the reference.
    let (status, out, error) = compare(root, &["two", "one"], &[]);
    assert_eq!((status, error.as_str()), (Some(0), ""));
    assert!(out.contains("two: as the reference has no predictions"), "{out}");
    assert!(!out.contains("differences from") && out.contains("seed"), "{out}");

    // A run in its first epoch.
    std::fs::remove_file(root.join("two/history.json")).unwrap();
    let (_, out, _) = compare(root, &["one", "two"], &["--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["runs"][1]["epochs"], 0);
    assert!(found["runs"][1]["score"].is_null() && found["runs"][1]["best_epoch"].is_null());
    assert_eq!(found["notes"][0], "two: no epoch is finished yet");
    assert_eq!(compare(root, &["one", "two"], &[]).0, Some(0));
}
