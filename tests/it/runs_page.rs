//! Output of `polyview compare`: its tables, JSON and page.

use std::path::{Path, PathBuf};

use polyview::runs::{RunTable, page};
use polyview::schema::Schema;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::page::sound;
use crate::common::program::{polyview, text};
use crate::common::runs::{predictions, read, write};

/// Writes runs with these names that are wrong about every n-th action, and returns their folders.
fn runs(root: &Path, rare: &[(&str, usize)]) -> Vec<PathBuf> {
    let schema = Schema::mvfoul().unwrap();
    let run = |(name, rare): &(&str, usize)| {
        let epoch = |rare: usize| predictions(&schema, 80, |action, _| action % rare == 0);
        let options = format!("--seed {rare} --lr 1e-{rare}");
        write(&root.join(name), &options, &schema, &[epoch(1), epoch(*rare), epoch(1)]);
        root.join(name)
    };
    rare.iter().map(run).collect()
}

fn rendered(folders: &[PathBuf]) -> String {
    let runs = read(folders);
    let page = page(&runs, &RunTable::new(&runs).unwrap()).unwrap();
    sound(&page);
    page
}

/// Returns the part of a page between the first `from` and the next `to`.
fn part<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let start = page.find(from).unwrap_or_else(|| panic!("no {from}"));
    &page[start..start + page[start..].find(to).unwrap()]
}

/// Returns the number of lines in a figure that are not axes.
fn lines(figure: &str) -> usize {
    figure.split('<').filter(|tag| tag.starts_with("polyline") && tag.contains("var(--c")).count()
}

#[test]
fn means_over_seeds_are_on_page_and_terminal() {
    let folder = TempDir::new().unwrap();
    let schema = Schema::mvfoul().unwrap();
    let names = ["plain_seed=0", "plain_seed=1", "ema_seed=0", "ema_seed=1"];
    for (place, name) in names.iter().enumerate() {
        let epoch = predictions(&schema, 256, |action, _| action / 4 % (2 << place) == 0);
        let average = if place > 1 { " --ema 0.9" } else { "" };
        let options = format!("--seed {}{average}", place % 2);
        write(&folder.path().join(name), &options, &schema, &[epoch]);
    }
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
    let page = rendered(&paths);
    let means = part(&page, "id=\"means\"", "</table>");
    assert_eq!(means.matches("<tr>").count(), 3, "{means}");
    for words in [">plain</th>", "62.5<small>± 12.5</small>", "+28.1<small>± 9.4, n = 2</small>"]
    {
        assert!(means.contains(words), "{words} is not in {means}");
    }
    assert!(!rendered(&paths[1..3]).contains("id=\"means\""));
    let root = folder.path().to_str().unwrap();
    let shown = text(&polyview(&["compare", root]).stdout);
    assert!(shown.contains("0.625 ±\u{a0}0.125") && shown.contains("over seeds"), "{shown}");
}

#[test]
fn the_page_has_tables_and_curves() {
    let folder = TempDir::new().unwrap();
    let name = if cfg!(windows) { "a & b" } else { "<b> & \"c\"" };
    let page = rendered(&runs(folder.path(), &[("reference", 2), (name, 5), ("third", 2)]));
    assert!(page.contains("<title>3 runs compared</title>"));
    assert!(!page.contains(name), "a name is not escaped");
    let escaped = name
        .replace('&', "&#38;")
        .replace('<', "&#60;")
        .replace('>', "&#62;")
        .replace('"', "&#34;");
    let results = part(&page, "id=\"runs\"", "</table>");
    assert_eq!(results.matches("<tr>").count(), 4);
    for words in [escaped.as_str(), "reference", "<td>80.0<small>", "<td>50.0<small>"] {
        assert!(results.contains(words), "{words} is not in {results}");
    }
    let tasks = ["task-offence_severity", "task-action_class"];
    for id in ["score", "valid-loss", "train-loss"].iter().chain(&tasks) {
        let figure = part(&page, &format!("<figure id=\"{id}\""), "</figure>");
        for colour in [1, 3, 4] {
            let line = format!("var(--c{colour})");
            // In the legend, in the line and in its dot.
            assert!(figure.matches(&line).count() >= 3, "{id}: colour {colour}");
        }
        assert_eq!(lines(figure), 3, "{id}");
        assert_eq!(figure.matches("<circle").count(), 3, "{id}");
        assert!(figure.contains(&escaped), "{id}");
    }
    let differences = part(&page, "id=\"differences\"", "</table>");
    assert_eq!(differences.matches("<tr>").count(), 3);
    assert!(differences.contains("+30.0<sup>*</sup>"), "{differences}");
    // The third run equals the reference.
    assert!(differences.contains("<td>0.0<small>0.0 to 0.0</small></td>"), "{differences}");
    assert!(page.contains("* The interval excludes 0 and rests on at least 5 actions."));
    let classes = part(&page, "data-task=\"action_class\"", "</table>");
    assert_eq!(classes.matches("<tbody>").count(), 8);
    assert_eq!(classes.matches("<tr>").count(), 1 + 8 * 2);
    let options = part(&page, "id=\"options\"", "</table>");
    // Two options and three runs: a row per run.
    assert!(options.contains("<th scope=\"col\">seed</th>"), "{options}");
    assert!(options.contains("<td>5</td>") && options.contains("<td>0.00001</td>"), "{options}");
}

#[test]
fn more_runs_than_colours() {
    let folder = TempDir::new().unwrap();
    // The reference is the worst run; run-1 and run-2 are the worst of the others.
    let all: Vec<(String, usize)> = (0..10).map(|n| (format!("run-{n}"), n + 1)).collect();
    let all: Vec<(&str, usize)> = all.iter().map(|(name, rare)| (name.as_str(), *rare)).collect();
    let page = rendered(&runs(folder.path(), &all));
    assert!(page.contains("Of 10 runs, 8 are drawn"));
    let figure = part(&page, "<figure id=\"score\"", "</figure>");
    assert_eq!(lines(figure), 8);
    let legend = part(figure, "class=\"legend\"", "</ul>");
    let drawn: Vec<bool> = all.iter().map(|(name, _)| legend.contains(name)).collect();
    assert_eq!(drawn, [[true, false, false].as_slice(), &[true; 7]].concat());
    let results = part(&page, "id=\"runs\"", "</table>");
    assert_eq!(results.matches("class=\"key\" style").count(), 8);
    assert_eq!(results.matches("<tr>").count(), 11);
}

#[test]
fn a_task_of_only_one_run_is_named_and_has_no_table() {
    let folder = TempDir::new().unwrap();
    let both = Schema::mvfoul().unwrap();
    let mut one = both.clone();
    one.tasks.truncate(1);
    for (name, schema) in [("one", &one), ("two", &both)] {
        let epoch = predictions(schema, 40, |action, _| action % 3 == 0);
        write(&folder.path().join(name), "", schema, &[epoch]);
    }
    let shown = text(&polyview(&["compare", folder.path().to_str().unwrap()]).stdout);
    let note = "one and two: the difference in score is over offence_severity only; two also has \
                action_class\n";
    assert!(shown.contains(note), "{shown}");
    assert!(shown.contains("offence_severity, recall per class"), "{shown}");
    assert!(!shown.contains("action_class, recall per class"), "{shown}");
}

#[test]
fn the_command_prints_tables_or_json_and_writes_the_page() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    runs(&root.join("sweep"), &[("one", 2), ("two", 5)]);
    let sweep = root.join("sweep");
    let page = root.join("page.html");
    let [sweep, out] = [&sweep, &page].map(|path| path.to_str().unwrap());
    let output = polyview(&["compare", sweep, "--out", out]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    for words in [
        "0.500\n",
        "differences from one",
        "+0.300 *",
        "* the 95 % interval excludes 0",
        "action_class, recall per class",
        "Standing tackling",
        "options that differ",
    ] {
        let words = words.trim();
        assert!(printed.contains(words), "{words:?} is not in {printed}");
    }
    assert!(text(&output.stderr).contains("page.html"));
    let written = std::fs::read_to_string(&page).unwrap();
    sound(&written);
    // The page may be overwritten; other pages are kept.
    assert!(polyview(&["compare", sweep, "--out", out]).status.success());
    for other in ["<html>mine", &written.replacen("2 runs compared", "run – finished, epoch 2", 1)]
    {
        std::fs::write(&page, other).unwrap();
        let output = polyview(&["compare", sweep, "--out", out]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        let why = "already exists and is not a page of compared runs; choose another file";
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_to_string(&page).unwrap(), other);
    }

    let output = polyview(&["compare", sweep, "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["runs"][0]["name"], &json["runs"][1]["name"]),
        (&"one".into(), &"two".into())
    );
    assert_eq!(
        (&json["runs"][1]["epochs"], &json["runs"][1]["best_epoch"]),
        (&3.into(), &2.into())
    );
    let pair = &json["differences"][0];
    assert_eq!((&pair["run"], &pair["actions"]), (&1.into(), &80.into()));
    assert!((pair["score"]["value"].as_f64().unwrap() - 0.3).abs() < 1e-9);
    assert_eq!(pair["tasks"][1]["classes"].as_array().unwrap().len(), 8);
    assert_eq!(pair["score"]["excludes_zero"], true);
    assert_eq!(json["options"][1]["option"], "seed");
    assert_eq!(json["options"][1]["values"][0], "2");
}
