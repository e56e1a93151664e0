//! The program as a user runs it: what it prints, writes and returns.

use std::path::Path;
use std::process::Output;

use polyview::evaluate::PredictionTable;
use polyview::metrics::ConfusionMatrix;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{self, last_error, polyview, text};

fn train(data: &Path, save: &Path, more: &[&str]) -> Output {
    program::train(data, save, more).output().unwrap()
}

fn history(save: &Path) -> Value {
    let text = std::fs::read_to_string(save.join("history.json")).unwrap();
    let mut history: Value = serde_json::from_str(&text).unwrap();
    for epoch in history.as_array_mut().unwrap() {
        epoch.as_object_mut().unwrap().remove("wall_seconds").unwrap();
        for pass in ["train", "valid"] {
            let pass = epoch[pass].as_object_mut().unwrap();
            assert!(pass["loss"].as_f64().unwrap().is_finite());
            // Wall times are never the same twice.
            pass.remove("seconds").unwrap();
            pass.remove("data_wait").unwrap();
        }
    }
    history
}

/// Checks that the predictions in the folder give the confusion matrices and the balanced
/// accuracies of the best epoch in the history.
fn predictions_are_of_the_best_epoch(save: &Path, history: &Value) {
    let best = history.as_array().unwrap().iter().rfind(|epoch| epoch["best"] == true).unwrap();
    let table = PredictionTable::parse(&std::fs::read(save.join("valid_predictions.csv")).unwrap());
    let table = table.unwrap();
    let records = best["valid"]["tasks"].as_array().unwrap();
    assert_eq!(records.len(), table.tasks.len());
    for (task, record) in records.iter().enumerate() {
        let (labels, predicted): (Vec<usize>, Vec<usize>) = table
            .actions
            .values()
            .filter_map(|answers| Some((answers[task].0?, answers[task].1)))
            .unzip();
        let classes = table.tasks[task].1.len();
        let matrix = ConfusionMatrix::from_pairs(classes, &labels, &predicted).unwrap();
        assert_eq!(record["confusion"], serde_json::to_value(matrix.rows()).unwrap());
        let balanced = record["balanced_accuracy"].as_f64().unwrap();
        assert!((balanced - matrix.balanced_accuracy()).abs() < 1e-12);
    }
}

#[test]
fn a_run_writes_its_files_and_its_configuration_repeats_it() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let output = train(&data, &save, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "progress belongs on stderr");
    let checkpoints = ["best.safetensors", "last.safetensors"];
    for file in checkpoints.iter().chain(&["history.json", "config.toml", "valid_predictions.csv"])
    {
        assert!(save.join(file).is_file(), "{file} is missing");
    }
    let first = history(&save);
    predictions_are_of_the_best_epoch(&save, &first);
    assert_eq!(first.as_array().unwrap().len(), 2);
    let stderr = text(&output.stderr);
    for word in ["r3d_tiny", "12 actions, 24 views", "epoch 2/2", "best epoch"] {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }

    let config = save.join("config.toml");
    let again = folder.path().join("again");
    let output = polyview(&[
        "train",
        "--config",
        config.to_str().unwrap(),
        "--save_dir",
        again.to_str().unwrap(),
        "--num_workers=3",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(history(&again), first, "the same configuration is the same run");
    let weights = |save: &Path| std::fs::read(save.join("last.safetensors")).unwrap();
    assert!(weights(&again) == weights(&save), "the weights differ");

    // The command line wins over the file.
    let output = polyview(&[
        "train",
        "--config",
        config.to_str().unwrap(),
        "--save-dir",
        again.to_str().unwrap(),
        "--epochs",
        "1",
        "--seed",
        "5",
        "--no-attention-aggregation",
        "--overwrite",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let other = history(&again);
    assert_eq!(other.as_array().unwrap().len(), 1);
    assert_ne!(other[0]["train"]["loss"], first[0]["train"]["loss"]);
    let written = std::fs::read_to_string(again.join("config.toml")).unwrap();
    assert!(written.contains("attention-aggregation = false"), "{written}");
}

/// Checks that training with these options fails with this exit status and an error with these
/// words.
fn refused(folder: &TempDir, more: &[&str], words: &[&str], status: i32) {
    let output = train(&folder.path().join("data"), &folder.path().join("run"), more);
    assert_eq!(output.status.code(), Some(status), "{more:?}: {}", text(&output.stderr));
    let stderr = text(&output.stderr);
    for word in words {
        assert!(stderr.contains(word), "{more:?}: {word:?} is not in {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn bad_options_are_refused_in_a_line_that_names_them() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("bad.toml");
    std::fs::write(&config, "epochs = 3\nbatch-sizes = 2\n").unwrap();
    let config = config.to_str().unwrap();
    // None of these reads any data: there is no data set.
    for (more, words) in [
        (&["--epochs", "0"] as &[&str], &["--epochs 0", "between 1"] as &[&str]),
        (&["--img-height", "8"], &["--img-height 8", "16"]),
        (&["--img-width", "100000"], &["--img-width"]),
        (&["--frames-per-clip", "0"], &["--frames-per-clip 0"]),
        (&["--start-frame", "20"], &["--end-frame 9", "--start-frame"]),
        (&["--lr", "-1"], &["--lr"]),
        (&["--lr", "nan"], &["--lr nan"]),
        (&["--target-fps", "0"], &["--target-fps 0"]),
        (&["--label-smoothing", "1"], &["--label-smoothing 1"]),
        (&["--dropout-rate", "1.5"], &["--dropout-rate 1.5"]),
        (&["--max-views", "0"], &["--max-views 0"]),
        (&["--batch-size", "0"], &["--batch-size 0"]),
        (&["--weight-decay", "-0.1"], &["--weight-decay"]),
        (&["--gradient-clip-norm", "inf"], &["--gradient-clip-norm"]),
        (&["--backbone-name", "resnet3d_50"], &["resnet3d_50", "r2plus1d_18", "r3d_50"]),
        (&["--backbone-name", "vit"], &["vit", "r3d_18, mc3_18"]),
        (&["--num-workers", "many"], &["many"]),
        (&["--no-such-option"], &["--no-such-option"]),
        (&["--schema", "absent.toml"], &["absent.toml"]),
        (&["--config", "absent.toml"], &["--config absent.toml"]),
        (&["--config", config], &["bad.toml", "line 2", "batch-sizes"]),
    ] {
        refused(&folder, more, words, 2);
    }
    let output = polyview(&["train"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(last_error(&output).contains("--dataset-root is required"), "{}", last_error(&output));
}

#[test]
fn bad_data_and_devices_are_refused_in_a_line_that_names_them() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    refused(&folder, &[], &["data", "--dataset-root"], 1);
    small_set(&data);
    // Refused before the data are read, which takes long.
    for (device, meant) in [("tpu", "auto, gpu, cpu"), ("mps", "is metal here")] {
        refused(&folder, &["--device", device], &[&format!("--device {device}"), meant], 2);
    }
    refused(&folder, &["--device", "wgpu:99"], &["wgpu:99", "polyview devices"], 1);
    refused(&folder, &["--pretrained", "absent.pth"], &["--pretrained absent.pth"], 1);
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    let inside = blocked.join("run");
    let inside = inside.to_str().unwrap();
    refused(&folder, &["--save-dir", inside], &["cannot be written", "--save-dir"], 1);

    let annotations = data.join("mvfouls/valid/annotations.json");
    let good = std::fs::read_to_string(&annotations).unwrap();
    std::fs::write(&annotations, good.replacen("\"Actions\"", "\"Actions\" {", 1)).unwrap();
    refused(&folder, &[], &["annotations.json", "line", "column"], 1);
    let left_out = good.replace("\"Offence\": \"", "\"Offence\": \"un");
    std::fs::write(&annotations, left_out).unwrap();
    refused(&folder, &[], &["valid", "none of its", "check-data"], 1);
    // A missing validation split is made from the training split.
    std::fs::remove_dir_all(data.join("mvfouls/train")).unwrap();
    refused(&folder, &[], &["valid", "train"], 1);
}

#[test]
fn devices_are_listed_with_the_one_that_auto_selects() {
    let output = polyview(&["devices", "--json"]);
    assert!(output.status.success());
    let devices: Value = serde_json::from_slice(&output.stdout).unwrap();
    let devices = devices.as_array().unwrap();
    let auto: Vec<&Value> = devices.iter().filter(|d| d["auto"] == true).collect();
    assert_eq!(auto.len(), 1);
    assert_ne!(auto[0]["kind"], "software", "a rasteriser is taken only when named");
    assert!(devices.iter().any(|d| d["id"] == "cpu"));
    let table = text(&polyview(&["devices"]).stdout);
    for device in devices {
        assert!(table.contains(device["id"].as_str().unwrap()), "{table}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_without_a_session_gets_no_errors_about_it() {
    let mut devices = program::command(&["devices"]);
    let output = devices.env_remove("XDG_RUNTIME_DIR").output().unwrap();
    assert!(output.status.success() && text(&output.stdout).contains("cpu"), "{output:?}");
    assert!(!text(&output.stderr).contains("XDG_RUNTIME_DIR"), "{output:?}");
}

#[test]
fn check_data_accepts_synth_and_finds_damage() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let root = data.to_str().unwrap();
    let check = ["check-data", "--dataset-root", root, "--start-frame", "2", "--end-frame", "9"];
    let output = polyview(&check);
    assert!(output.status.success(), "{}", text(&output.stdout));
    let clip = data.join("mvfouls/test/action_0/clip_1.mp4");
    let bytes = std::fs::read(&clip).unwrap();
    std::fs::write(&clip, &bytes[..bytes.len() / 2]).unwrap();
    let output = polyview(&check);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("clip_1"), "{}", text(&output.stdout));
    let output = polyview(&["synth", "--out", root]);
    assert_eq!(output.status.code(), Some(1));
    assert!(last_error(&output).contains("is not empty"), "{}", last_error(&output));
}

#[cfg(unix)]
#[test]
fn an_interrupt_finishes_the_step_and_leaves_a_checkpoint() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let mut child = program::train(&data, &save, &["--epochs", "100000"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines
        .find(|line| line.starts_with("epoch ") && line.contains(" 1/"))
        .expect("no epoch finished");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("last weights")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("--resume auto")), "{rest:?}");
    let device = burn::tensor::Device::flex();
    let (_, info) = polyview::checkpoint::load(&save.join("last.safetensors"), &device).unwrap();
    assert!(info.epoch >= 1);
}
