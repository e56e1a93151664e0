//! Names that are not UTF-8, which Unix allows, wherever a file or folder can be given.
#![cfg(unix)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use polyview::checkpoint;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{command, polyview, text, train};
use crate::common::skip::skip;

/// Returns a name with bytes that are not UTF-8, followed by a suffix.
fn odd(ending: &str) -> OsString {
    let mut name = OsStr::from_bytes(b"n\xff\xc3(").to_owned();
    name.push(ending);
    name
}

/// Creates a data set in a folder with such a name; returns `None` where the file system refuses
/// it.
fn odd_set() -> Option<(TempDir, PathBuf)> {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join(odd(""));
    match fs::create_dir(&data) {
        Ok(()) => {
            small_set(&data.join("set"));
            Some((folder, data.join("set")))
        }
        Err(error) => {
            skip(format_args!("this file system refuses names that are not UTF-8: {error}"));
            None
        }
    }
}

fn ran(output: Output) -> Output {
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

#[test]
fn a_run_is_trained_repeated_and_resumed() {
    let Some((folder, data)) = odd_set() else { return };
    let at = |ending: &str| folder.path().join(odd(ending));
    let schema = at(".toml");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/mvfoul.toml"), &schema).unwrap();
    let save = at("-run");
    let mut first = train(&data, &save, &["--progress", "json", "--epochs", "1"]);
    first.arg("--cache").arg(at("-cache")).arg("--schema").arg(&schema);
    let first = ran(first.output().unwrap());
    assert!(text(&first.stdout).contains("\"event\":\"saved\",\"path\":\""));
    assert!(!text(&first.stderr).contains("--progress json"), "{}", text(&first.stderr));
    assert!(at("-cache").is_dir());

    // The names are in config.toml and in the checkpoint, byte for byte.
    let mut again = command(&["train", "--epochs", "2", "--resume", "auto", "--config"]);
    let again = ran(again.arg(save.join(checkpoint::CONFIG)).output().unwrap());
    let shown = text(&again.stderr);
    assert!(shown.contains("epoch 2/2"), "{shown}");
    assert!(shown.contains("differs from the checkpoint's: epochs was 1, is 2\n"), "{shown}");
    let mut joined = OsString::from("--resume=");
    joined.push(save.join(checkpoint::LAST));
    let mut by_name = command(&["train", "--epochs", "3", "--config"]);
    by_name.arg(save.join(checkpoint::CONFIG)).arg(joined);
    assert!(text(&ran(by_name.output().unwrap()).stderr).contains("epoch 3/3"));

    // An option name with underscores in front of such a value.
    let mut save_dir = OsString::from("--save_dir=");
    save_dir.push(at("-other"));
    let mut other = train(&data, Path::new("unused"), &["--epochs", "1", "--pretrained"]);
    other.arg(save.join(checkpoint::LAST)).arg(save_dir);
    ran(other.output().unwrap());
    assert!(at("-other").join(checkpoint::LAST).is_file() && !Path::new("unused").exists());
}

#[test]
fn every_command_prints_and_writes_them() {
    let Some((folder, data)) = odd_set() else { return };
    let save = folder.path().join("run");
    ran(train(&data, &save, &["--epochs", "1"]).output().unwrap());
    let best = folder.path().join(odd(".safetensors"));
    fs::copy(save.join(checkpoint::BEST), &best).unwrap();
    let action = data.join("mvfouls/train/action_0");
    fs::rename(action.join("clip_0.mp4"), action.join(odd(".mp4"))).unwrap();
    fs::write(action.join(odd("x.mp4")), b"x").unwrap();
    let at = |ending: &str| folder.path().join(odd(ending));

    let mut predict = command(&["predict", "--device", "cpu", "--json", "--checkpoint"]);
    let output = ran(predict.arg(&best).arg(&action).output().unwrap());
    let predicted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let named = |key: &str| {
        predicted[0][key]
            .as_array()
            .unwrap()
            .iter()
            .any(|view| view["clip"].as_str().unwrap().contains('\u{fffd}'))
    };
    assert!(named("views") && named("unreadable"), "{predicted}");

    let mut evaluate = command(&["evaluate", "--device", "cpu", "--json", "--checkpoint"]);
    evaluate.arg(&best).arg("--dataset-root").arg(&data).arg("--predictions").arg(at(".json"));
    ran(evaluate.output().unwrap());
    assert!(at(".json").is_file());

    let mut check = command(&["check-data", "--json", "--start-frame", "0", "--end-frame", "9"]);
    let output = check.arg("--dataset-root").arg(&data).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["root"].as_str().unwrap().contains('\u{fffd}'));

    let mut export = command(&["export", "--checkpoint"]);
    ran(export.arg(&best).arg("--out").arg(at("-out.safetensors")).output().unwrap());
    let mut synth = command(&["synth", "--actions", "2", "--out"]);
    ran(synth.arg(at("-synth")).output().unwrap());
    let mut augment = command(&["augment", "--action", "1", "--dataset-root"]);
    ran(augment.arg(&data).arg("--out").arg(at(".png")).output().unwrap());
}

#[test]
fn options_that_take_text_refuse_them_in_one_line() {
    for option in ["--lr", "--device"] {
        let mut train = command(&["train", "--dataset-root", "data", option]);
        let output = train.arg(odd("")).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains("UTF-8") && error.lines().count() == 1, "{error}");
    }
    let output = polyview(&["train", "--dataset-root", "data", "--save-dir", ""]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--save-dir"), "{}", text(&output.stderr));
}
