//! Evaluating a network that was trained on created splits: on its data set, on the same one with more
//! actions, and on another one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use polyview::checkpoint;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::{clip, small_set};
use crate::common::program::{command, text};
use crate::common::run::{run, small_config, with_args};

/// Writes a table of clips of two classes; `split` names the split of each, if the table has splits.
fn table(
    folder: &TempDir,
    name: &str,
    count: usize,
    split: Option<fn(usize) -> &'static str>,
) -> PathBuf {
    let clips = folder.path().join("data");
    if !clips.exists() {
        small_set(&clips);
    }
    let root = folder.path().join(name);
    fs::create_dir_all(&root).unwrap();
    let mut lines = "action,path,class,split\n".to_owned();
    if split.is_none() {
        lines = lines.replace(",split", "");
    }
    for n in 0..count {
        let path = clip(&clips, n / 2, n % 2);
        write!(lines, "{n},{},{}", path.display(), n / 2 % 2).unwrap();
        let own = split.map(|split| format!(",{}", split(n)));
        writeln!(lines, "{}", own.unwrap_or_default()).unwrap();
    }
    fs::write(root.join("manifest.csv"), lines).unwrap();
    root
}

/// Returns a clip's split: half of the actions are for training, the others for validation and test.
fn thirds(n: usize) -> &'static str {
    ["train", "valid", "train", "test"][n / 2 % 4]
}

fn trained(folder: &TempDir, root: &Path, more: &[&str]) -> PathBuf {
    let options = ["--no-gradual-finetuning", "--epochs", "1", "--no-cache", "--dataset-root"];
    let options = [&options[..], &[root.to_str().unwrap()], more].concat();
    let config = with_args(&small_config(folder), &options);
    run(&config);
    config.run.save_dir.join(checkpoint::BEST)
}

/// Evaluates; returns the number of actions and what is printed to stderr.
fn evaluate(checkpoint: &Path, root: &Path, split: &str) -> (u64, String) {
    let mut command = command(&["evaluate", "--json", "--device", "cpu", "--split", split]);
    let output =
        command.arg("--checkpoint").arg(checkpoint).arg("--dataset-root").arg(root).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    (report["figures"]["actions"].as_u64().unwrap(), text(&output.stderr))
}

/// Warnings that the network may have been trained on actions of the split.
const OTHERS: &str = "the splits created from it are not those of the training";
const OWN: &str = "if this is the data set it was trained on, the network may";

#[test]
fn splits_created_from_more_actions_are_not_those_of_the_training() {
    let folder = TempDir::new().unwrap();
    let root = table(&folder, "set", 20, None);
    let checkpoint = trained(&folder, &root, &["--split", "0.5,0.25,0.25"]);
    let (actions, said) = evaluate(&checkpoint, &root, "test");
    assert_eq!(actions, 5);
    assert!(!said.contains(OTHERS) && !said.contains(OWN), "{said}");
    table(&folder, "set", 24, None);
    let (actions, said) = evaluate(&checkpoint, &root, "test");
    assert_eq!((actions, said.matches(OTHERS).count()), (6, 1), "{said}");
    // The same is true for a run that resumes with the new splits: it has trained on the old ones.
    let save = folder.path().join("on");
    let (root_text, save_text) = (root.to_str().unwrap(), save.to_str().unwrap());
    let options = ["--no-gradual-finetuning", "--epochs", "2", "--no-cache", "--dataset-root"];
    let more = ["--split", "0.5,0.25,0.25", "--save-dir", save_text, "--resume"];
    let last = checkpoint.with_file_name(checkpoint::LAST);
    let all = [&options[..], &[root_text], &more, &[last.to_str().unwrap()]].concat();
    run(&with_args(&small_config(&folder), &all));
    let (actions, said) = evaluate(&save.join(checkpoint::LAST), &root, "test");
    assert_eq!((actions, said.matches(OTHERS).count()), (6, 1), "{said}");
    let before = table(&folder, "before", 20, None);
    let (_, said) = evaluate(&save.join(checkpoint::LAST), &before, "test");
    assert_eq!(said.matches(OTHERS).count(), 1, "{said}");
    assert!(!evaluate(&checkpoint, &before, "test").1.contains(OTHERS));
    // For a data set that has the split, none is created.
    let own = table(&folder, "own", 24, Some(thirds));
    let (actions, said) = evaluate(&checkpoint, &own, "test");
    assert_eq!((actions, said.matches(OWN).count()), (6, 1), "{said}");
    assert!(said.contains("not one created with the training's --split 0.5,0.25,0.25"), "{said}");
}

#[test]
fn a_fold_is_that_of_its_own_data_set() {
    let folder = TempDir::new().unwrap();
    let root = table(&folder, "set", 24, Some(thirds));
    let checkpoint = trained(&folder, &root, &["--fold", "1/3"]);
    // 12 training and 6 validation actions form the folds; the test split is unchanged.
    for split in ["valid", "test"] {
        let (actions, said) = evaluate(&checkpoint, &root, split);
        assert_eq!(actions, 6, "{split}");
        assert!(!said.contains(OTHERS) && !said.contains(OWN), "{said}");
    }
    assert_eq!(evaluate(&checkpoint, &root, "train").0, 12);
    let other = table(&folder, "other", 16, Some(thirds));
    let (actions, said) = evaluate(&checkpoint, &other, "valid");
    assert_eq!((actions, said.matches(OWN).count()), (4, 1), "{said}");
    assert!(said.contains("not one created with the training's --fold 1/3"), "{said}");
    let (actions, said) = evaluate(&checkpoint, &other, "test");
    assert_eq!((actions, said.contains(OWN)), (4, false), "{said}");
}
