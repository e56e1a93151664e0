//! Readability of the pages of runs: contrast, many classes, long names, phones and paper, measured
//! in a browser.

use std::collections::HashMap;

use polyview::metrics::ConfusionMatrix;
use polyview::report::caption::Caption;
use polyview::report::html::{Example, ReportData, RunStatus, Strip, render};
use polyview::report::{EpochRecord, TaskRecord};
use polyview::runs::{RunTable, page};
use polyview::schema::Schema;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::browser::run_script_with;
use crate::common::page::sound;
use crate::common::report;
use crate::common::runs::{predictions, read, write};

/// Returns a schema with `classes` classes in each task.
fn schema(classes: usize, name: impl Fn(usize) -> String) -> Schema {
    let mut schema = Schema::mvfoul().unwrap();
    for task in &mut schema.tasks {
        let first = task.classes[0].clone();
        let class = |number| {
            let mut class = first.clone();
            class.name = name(number);
            class
        };
        task.classes = (0..classes).map(class).collect();
    }
    schema
}

/// Returns a history with these confusion matrices, one per task.
fn history(schema: &Schema, matrices: [Vec<Vec<u64>>; 2]) -> Vec<EpochRecord> {
    let mut history = report::history(2);
    for record in &mut history {
        record.calibration = None;
        let tasks = schema.tasks.iter().zip(&matrices).map(|(task, rows)| {
            let matrix = ConfusionMatrix::from_rows(rows).unwrap();
            TaskRecord::new(&task.name, 1.0, &matrix)
        });
        record.valid.tasks = tasks.collect();
    }
    history
}

fn rendered(schema: &Schema, history: &[EpochRecord], title: &str, examples: &[Example]) -> String {
    let mut summary = report::summary();
    for split in &mut summary.splits {
        for ((_, counts), task) in split.classes.iter_mut().zip(&schema.tasks) {
            *counts = task.class_names().into_iter().map(|name| (name, 7)).collect();
        }
    }
    let page = render(&ReportData {
        title,
        state: RunStatus::Finished,
        epochs: 2,
        device: "cpu",
        schema,
        history,
        summary: &summary,
        configuration: &[],
        best: examples,
        worst: &[],
        earlier_examples: None,
    });
    let page = page.unwrap();
    sound(&page);
    page
}

/// Returns rows of 100 actions each: `from`, `from + 1`, … of them on the diagonal and the others
/// beside it.
fn shares(from: u64) -> Vec<Vec<u64>> {
    let row = |label: usize| {
        let mut row = vec![0; 51];
        row[label] = from + label as u64;
        row[(label + 1) % 51] += 100 - row[label];
        row
    };
    (0..51).map(row).collect()
}

/// Returns what the script measures on the pages; `None` without a browser.
fn measured(task: Value, pages: [(&str, String); 1]) -> Option<Value> {
    let files: HashMap<String, Vec<u8>> =
        pages.into_iter().map(|(name, page)| (name.to_owned(), page.into_bytes())).collect();
    run_script_with(include_str!("web/readable.js"), &task, files)
}

#[test]
fn every_cell_and_line_stands_out() {
    let schema = schema(51, |number| format!("class {number}"));
    let history = history(&schema, [shares(0), shares(50)]);
    let page = rendered(&schema, &history, "run", &[]);
    let Some(found) = measured(json!({ "what": "contrast" }), [("page", page)]) else { return };
    for theme in ["light", "dark"] {
        let least = |what: &str| found[theme][what].as_f64().unwrap();
        assert!(found[theme]["count"].as_u64() > Some(5000), "{found}");
        assert!(least("cells") >= 4.5 && least("lines") >= 3.0, "{theme}: {found}");
    }
}

#[test]
fn many_classes_are_seen_at_once_and_fit_on_paper() {
    let schema = schema(24, |number| format!("class of number {number}"));
    let row = |label| (0..24).map(|class| if class == label { 1234 } else { 56 }).collect();
    let rows: Vec<Vec<u64>> = (0..24).map(row).collect();
    let history = history(&schema, [rows.clone(), rows]);
    let page = rendered(&schema, &history, "run", &[]);
    let Some(found) = measured(json!({ "what": "matrix" }), [("page", page)]) else { return };
    assert_eq!(found["columns"], 24, "{found}");
    // When scrolled on a phone, names stay visible, and do not wrap after every word.
    assert_eq!((&found["sticks"], &found["lines"]), (&true.into(), &2.into()), "{found}");
    let paper = &found["paper"];
    assert_eq!((&paper["beyond"], &paper["hidden"]), (&json!([]), &json!([])), "{found}");
    assert_eq!((&paper["lost"], &paper["split"]), (&json!([]), &json!([])), "{found}");
}

#[test]
fn long_names_do_not_widen_the_page_on_a_phone() {
    let long = |number: usize| format!("{number}{}", "x".repeat(90));
    let mut schema = schema(3, long);
    schema.title = long(9);
    for task in &mut schema.tasks {
        task.title = long(8);
    }
    let rows = vec![vec![5, 1, 0], vec![0, 4, 2], vec![1, 0, 3]];
    let history = history(&schema, [rows.clone(), rows]);
    let name = |text| Caption::default().words("Action ").name(text);
    let strips = vec![Strip { title: name(long(4)), frames: Vec::new() }];
    let examples = [Example { caption: name(long(5)), strips }];
    let report = rendered(&schema, &history, &long(0), &examples);

    let folder = TempDir::new().unwrap();
    let mvfoul = Schema::mvfoul().unwrap();
    let folders = [1, 2].map(|number| folder.path().join(long(number)));
    for (number, folder) in folders.iter().enumerate() {
        let epoch = predictions(&mvfoul, 40, |action, _| action % (number + 2) == 0);
        write(folder, &format!("--seed {number}"), &mvfoul, &[epoch]);
    }
    let runs = read(&folders);
    let compared = page(&runs, &RunTable::new(&runs).unwrap()).unwrap();
    for page in [report, compared] {
        let Some(found) = measured(json!({ "what": "width" }), [("page", page)]) else { return };
        assert_eq!(found, json!([0, []]), "{found}");
    }
}

#[test]
fn the_direction_of_names_does_not_affect_the_text_around_them() {
    let name = |number: usize| format!("\u{5d0}{number}\u{202e}");
    let schema = schema(2, name);
    let rows = vec![vec![5, 1], vec![0, 4]];
    let history = history(&schema, [rows.clone(), rows]);
    let caption = Caption::default().words("Action ").name(name(7)).words(": ").name(name(0));
    let examples = [Example { caption, strips: Vec::new() }];
    let page = rendered(&schema, &history, "run", &examples);
    let [zero, one, seven] = [0, 1, 7].map(name);
    let caption = format!("<figcaption>Action <bdi>{seven}</bdi>: <bdi>{zero}</bdi></figcaption>");
    assert!(page.contains(&caption), "{page}");
    // In a tooltip, which cannot contain elements.
    let tooltip = "actual \u{2068}\u{5d0}0\u{2069}, predicted \u{2068}\u{5d0}1\u{2069}: 1 of 6";
    assert!(page.contains(tooltip), "{page}");
    assert!(page.contains(&format!("<bdi>{one}</bdi></th>")), "{page}");

    let folder = TempDir::new().unwrap();
    let mvfoul = Schema::mvfoul().unwrap();
    let folders = [1, 2].map(|number| folder.path().join(name(number)));
    for (folder, actions) in folders.iter().zip([40, 32]) {
        write(folder, "", &mvfoul, &[predictions(&mvfoul, actions, |action, _| action % 2 == 0)]);
    }
    let runs = read(&folders);
    let page = polyview::runs::page(&runs, &RunTable::new(&runs).unwrap()).unwrap();
    let [reference, other] = [1, 2].map(|number| format!("<bdi>{}</bdi>", name(number)));
    assert!(page.contains(&format!("<small>from {reference}</small>")), "{page}");
    assert!(page.contains(&format!("</i>{other}</li>")), "{page}");
    let note = "<li>\u{5d0}1 and \u{5d0}2 have 32 actions in common, of 40 and 32</li>";
    assert!(page.contains(note), "{page}");
}
