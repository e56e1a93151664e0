//! Input that is valid but probably a mistake: the wrong folder, a window that no clip reaches, a
//! renamed run, clips that are left out.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{command, last_error, polyview, text, train};

#[test]
fn the_folder_of_one_split_is_not_a_data_set() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let split = data.join("mvfouls/train");
    let save = folder.path().join("run");
    for more in [&[][..], &["--format", "soccernet"]] {
        let output = train(&split, &save, more).output().unwrap();
        let error = last_error(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        let why =
            "is the folder of a single split (it has annotations.json); give the folder above";
        assert!(error.contains(why), "{error}");
        assert!(!save.exists());
    }
    // With --format folders, the same folders are classes.
    let split = split.to_str().unwrap();
    let output = polyview(&["check-data", "--format", "folders", "--dataset-root", split]);
    assert!(text(&output.stdout).contains("action_0"), "{}", text(&output.stderr));
}

#[test]
fn a_window_that_no_clip_reaches_is_refused() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let save = folder.path().join("run");
    let run = |more: &[&str]| train(&data, &save, more).output().unwrap();
    let output = run(&["--start-frame", "12", "--end-frame", "20"]);
    let error = last_error(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let why = "train split: the window begins at frame 12, and every clip ends before it, such as ";
    assert!(error.contains(why) && error.contains("with 12 frames; give an earlier"), "{error}");
    assert!(!save.exists());
    // One frame within the window is enough, and so is one such clip.
    let one = run(&["--start-frame", "11", "--end-frame", "20", "--epochs", "1"]);
    assert!(one.status.success(), "{}", text(&one.stderr));
    // A network may have been trained on longer clips than those that it predicts.
    let action = data.join("mvfouls/test/action_0");
    let mut predict = command(&["predict", "--device", "cpu", "--start-frame", "30"]);
    predict.args(["--end-frame", "40", "--checkpoint"]).arg(save.join("best.safetensors"));
    let shown = text(&predict.arg(action).output().unwrap().stderr);
    let why = "some clips end before the window begins";
    assert_eq!(shown.matches(why).count(), 1, "{shown}");
}

#[test]
fn a_renamed_run_does_not_start_over() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
    assert!(train(&data, &before, &["--epochs", "1"]).output().unwrap().status.success());
    fs::rename(&before, &after).unwrap();
    let resume = |within: &Path, file: &str, more: &[&str]| {
        let args = [&["train", "--config", file, "--resume", "auto"], more].concat();
        command(&args).current_dir(within).output().unwrap()
    };
    for (within, file, name) in
        [(folder.path(), "after/config.toml", "after"), (&after, "config.toml", ".")]
    {
        let output = resume(within, file, &[]);
        let error = last_error(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        let advice = format!("continue it with --save-dir {name}");
        assert!(error.contains("--resume auto") && error.ends_with(&advice), "{error}");
        assert!(!before.exists());
    }
    // Following the advice works, and a folder given explicitly is used.
    let output = resume(folder.path(), "after/config.toml", &["--save-dir", "after"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = resume(folder.path(), "after/config.toml", &["--save-dir", "new"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(folder.path().join("new/last.safetensors").exists());
}

#[test]
fn folders_beside_the_clips_of_an_action_are_reported() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let save = folder.path().join("run");
    assert!(train(&data, &save, &["--epochs", "1"]).output().unwrap().status.success());
    let split = data.join("mvfouls/test");
    fs::copy(split.join("action_0/clip_0.mp4"), split.join("stray.mp4")).unwrap();
    let predict = |clips: &Path| {
        let mut predict = command(&["predict", "--device", "cpu", "--checkpoint"]);
        let output = predict.arg(save.join("best.safetensors")).arg(clips).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        output
    };
    let shown = text(&predict(&split).stderr);
    assert!(shown.contains("the folders of clips in it are left out: "), "{shown}");
    assert!(shown.contains("action_0 and 15 more"), "{shown}");
    assert!(!text(&predict(&split.join("action_0")).stderr).contains("left out"));
    // Control characters in names do not reach the terminal.
    #[cfg(unix)]
    {
        let named = folder.path().join("a\x1b[31m\nb");
        fs::create_dir(&named).unwrap();
        fs::copy(split.join("stray.mp4"), named.join("x\x07.mp4")).unwrap();
        let shown = text(&predict(&named).stdout);
        assert!(shown.contains("a\\u{1b}[31m\\nb\n"), "{shown}");
        assert!(!shown.contains(['\x1b', '\x07']), "{shown:?}");
    }
}

#[test]
fn freezing_is_not_compared_with_itself() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let save = folder.path().join("run");
    let args = ["--compare-freezing", "--no-gradual-finetuning"];
    let output = train(&data, &save, &args).output().unwrap();
    let error = last_error(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("both runs would be the same"), "{error}");
    assert!(!save.exists());
}

#[test]
fn what_a_run_does_not_use_is_said_at_its_start() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut files = vec!["wave/deep/act/0.mp4".to_owned()];
    for class in ["wave", "clap"] {
        files.extend((0..12).map(|n| format!("{class}/{n}/0.mp4")));
        files.extend((0..12).map(|n| format!("{class}/{n}/thumb.jpg")));
    }
    for file in files {
        let path = data.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    // The clips are empty, so the run ends when it reads them.
    let output =
        train(&data, &folder.path().join("run"), &["--split", "0.8,0.2"]).output().unwrap();
    let shown = text(&output.stderr);
    assert!(!output.status.success(), "{shown}");
    let beside = " split: action clap/0: 1 image beside its 1 video is not used";
    assert!(shown.contains(beside), "{shown}");
    assert!(shown.contains(" more warnings: images beside videos"), "{shown}");
    assert!(shown.contains("train split: clips in wave/deep/act are not used"), "{shown}");
}
