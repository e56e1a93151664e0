//! Commands that newcomers type: options under other trainers' names, files without their option, commands
//! that the program itself prints.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{command, last_error, polyview, text, train};

fn refused(args: &[&str]) -> String {
    let output = polyview(args);
    let error = last_error(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    error
}

#[test]
fn options_of_other_trainers_are_recognised() {
    let train = ["train", "--dataset-root", "absent"];
    for (command, typed, meant) in [
        (&train[..], "--backbone", "did you mean --backbone-name?"),
        (&train, "--no-augmentation", "did you mean --disable-augmentation?"),
        (&train, "--learning-rate", "did you mean --lr?"),
        (&train, "--model", "did you mean --backbone-name?"),
        (&train, "--patience", "did you mean --early-stopping-patience?"),
        (&train, "--use_amp", "did you mean --precision f16?"),
        (&train, "--weights", "did you mean --pretrained?"),
        (&["serve"], "--weights", "did you mean --checkpoint?"),
        (&train, "--num-frames", "did you mean --frames-per-clip?"),
        (&train, "--views", "did you mean --max-views?"),
        (&train, "--image-size", "did you mean --img-height and --img-width?"),
        (&train, "--output", "did you mean --save-dir?"),
        (&["export"], "--output", "did you mean --out?"),
        (&train, "--no-pretrained", "there is no such option; leave --pretrained out"),
        (&["devices"], "--patience", "--patience: there is no such option"),
    ] {
        let error = refused(&[command, &[typed]].concat());
        assert!(error.ends_with(meant), "{typed}: {error}");
    }
}

#[test]
fn the_missing_option_of_a_file_is_suggested() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("best.safetensors"), "").unwrap();
    let run = folder.path().to_str().unwrap();
    for (args, expected) in [
        (&["train", "syn"] as &[&str], "syn: give the data set as --dataset-root syn"),
        (&["check-data", "my data"], "my data: give the data set as --dataset-root 'my data'"),
        (&["train", "a.toml"], "a.toml: give the options as --config a.toml"),
        (&["train", "--dataset-root", "a", "b"], "unexpected argument 'b' found"),
        (&["compare", "a", "--dataset-root", "b"], "--dataset-root: there is no such option"),
    ] {
        assert_eq!(refused(args), format!("error: {expected}"));
    }
    let error = refused(&["evaluate", run]);
    assert!(error.ends_with(&format!("give the checkpoint as --checkpoint {run}")), "{error}");
}

#[test]
fn the_data_set_of_init_schema_may_be_named() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t.csv");
    fs::write(&table, "path,hand\na.mp4,left\nb.mp4,right\n").unwrap();
    let table = table.to_str().unwrap();
    let bare = polyview(&["init-schema", table]);
    let named = polyview(&["init-schema", "--dataset-root", table]);
    assert!(named.status.success(), "{}", text(&named.stderr));
    assert_eq!(named.stdout, bare.stdout);
    assert_eq!(polyview(&["init-schema"]).status.code(), Some(2));
    refused(&["init-schema", table, "--dataset-root", table]);
}

#[test]
fn mistakes_in_a_configuration_file_are_corrected() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("c.toml");
    let path = file.to_str().unwrap();
    for (written, expected) in [
        (
            "no-gradual-finetuning = true",
            "line 1: no-gradual-finetuning: write gradual-finetuning = false",
        ),
        ("no_tune = false", "line 1: no-tune: write tune = true"),
        ("no-pretrained = true", "there is no such option; leave pretrained out"),
        ("image-size = 3", "there is no such option; did you mean img-height and img-width?"),
        ("[train]\nlr = 1", "line 1: [train]: options belong at the top level, without [train]"),
        (
            "seed = 1\nepochs = three",
            "line 2: epochs = three: text needs quotes (epochs = \"three\")",
        ),
        ("device = cuda:0 # fast", "line 1: device = cuda:0: text needs quotes"),
        ("tune = True", "line 1: tune = True: write tune = true"),
        ("lr = .001", "line 1: lr = .001: write lr = 0.001"),
        ("window = 67..82", "line 1: window = 67..82: text needs quotes"),
        ("save-dir = /x/y", "line 1: save-dir = /x/y: text needs quotes"),
    ] {
        fs::write(&file, written).unwrap();
        let error = refused(&["train", "--dataset-root", "absent", "--config", path]);
        assert!(error.contains(expected), "{written}: {error}");
    }
    // This is an option in its own right, not the negation of one.
    fs::write(&file, "no-cache = true").unwrap();
    let output = polyview(&["train", "--dataset-root", "absent", "--config", path]);
    assert!(last_error(&output).contains("absent: no such folder"), "{}", last_error(&output));
}

#[test]
fn resuming_and_overwriting_contradict_each_other() {
    let args = ["train", "--dataset-root", "absent", "--resume", "auto"];
    let error = refused(&[&args[..], &["--overwrite"]].concat());
    assert!(
        error.contains("--resume auto with --overwrite: ") && error.contains("leave one"),
        "{error}"
    );
    // A run's own configuration file may contain one of them.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("c.toml");
    fs::write(&file, "overwrite = true\n").unwrap();
    for more in [&["--config", file.to_str().unwrap()], &["--overwrite", "--no-overwrite"]] {
        let output = polyview(&[&args[..], more].concat());
        assert!(last_error(&output).contains("no such folder"), "{}", last_error(&output));
    }
}

#[test]
fn shares_that_do_not_add_up_to_one_are_refused_with_their_sum() {
    let error = refused(&["train", "--dataset-root", "absent", "--split", "0.5,0.2,0.1"]);
    assert_eq!(error, "error: --split 0.5,0.2,0.1: its shares add up to 0.8, not 1");
}

#[test]
fn a_missing_split_of_a_table_is_reported_with_those_it_has() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t.csv");
    fs::write(&table, "path,hand,split\na.mp4,left,train\nb.mp4,right,valid\n").unwrap();
    let picture = folder.path().join("x.png");
    let args = ["--split", "test", "--action", "a", "--out", picture.to_str().unwrap()];
    let root = table.to_str().unwrap();
    let output = polyview(&[&["augment", "--dataset-root", root], &args[..]].concat());
    let error = last_error(&output);
    let expected =
        "t.csv: has no split \"test\"; it has train and valid; give one of them with --split";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn the_default_window_depends_on_the_command() {
    for name in ["train", "lr-find", "check-data", "augment", "evaluate", "predict", "serve"] {
        let output = command(&[name, "--help"]).env("COLUMNS", "200").output().unwrap();
        let help = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = match name {
            "evaluate" | "predict" | "serve" => "segments or whole [default: the checkpoint's]",
            _ => "segments or whole [default: the schema's, else dense]",
        };
        assert!(help.contains(expected), "{name}: {help}");
    }
}

/// Runs `synth` and returns the arguments of the command that it prints.
fn hint(data: &Path, more: &[&str]) -> Vec<String> {
    let output = command(&["synth", "--out"]).arg(data).args(more).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("challenge"), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let tried = said.lines().find_map(|line| line.strip_prefix("try: polyview ")).expect("a hint");
    tried.split(' ').map(str::to_owned).collect()
}

#[test]
fn the_command_that_synth_prints_trains() {
    let folder = TempDir::new().unwrap();
    for (name, more, window) in [
        ("usual", &["--actions", "4", "--views", "1", "--held-out", "2"] as &[&str], false),
        ("short", &["--actions", "4", "--views", "1", "--held-out", "2", "--frames", "16"], true),
    ] {
        let data = folder.path().join(name);
        let args = hint(&data, more);
        assert_eq!(args.join(" ").contains("--window center"), window, "{args:?}");
        assert!(args.iter().any(|arg| arg == "--no-gradual-finetuning"), "{args:?}");
        let save = folder.path().join("run");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let rest = ["--test-run", "--test-batches", "1", "--device", "cpu", "--save-dir"];
        let output = command(&args).args(rest).arg(&save).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        for warning in ["random weights", "past", "repeat"] {
            assert!(!said.contains(warning), "{name}: {said}");
        }
    }
}

#[test]
fn the_events_of_a_run_have_an_end() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let run = |more: &[&str]| -> (Option<i32>, Vec<Value>, String) {
        let args = [&["--progress", "json"], more].concat();
        let output = train(&data, &save, &args).output().unwrap();
        let events = text(&output.stdout);
        let events = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code(), events, last_error(&output))
    };
    let (status, events, error) = run(&[]);
    assert_eq!(status, Some(0), "{error}");
    let step = events.iter().find(|event| event["event"] == "step").unwrap();
    assert_eq!((&step["epoch"], &step["phase"]), (&json!(1), &json!("train")));
    let step = events.iter().rfind(|event| event["event"] == "step").unwrap();
    assert_eq!((&step["epoch"], &step["phase"]), (&json!(2), &json!("validate")));
    let best = events.iter().rfind(|event| event["best"] == true).unwrap();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["reason"]), (&json!("finished"), &json!("all epochs")));
    assert_eq!((&last["epochs"], &last["best_epoch"]), (&json!(2), &best["epoch"]));
    assert_eq!(last["score"], best["score"]);
    let written: Vec<&str> =
        last["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(written.iter().any(|file| file.ends_with("best.safetensors")), "{written:?}");
    assert!(written.iter().all(|file| Path::new(file).is_file()), "{written:?}");

    let (_, events, error) = run(&["--resume", "auto"]);
    assert_eq!(events.last().expect(&error)["reason"], "was finished");
    let (status, events, error) = run(&["--overwrite", "--lr", "1e30"]);
    assert_eq!(status, Some(1));
    let last = events.last().unwrap();
    let message = last["message"].as_str().unwrap();
    assert_eq!((&last["event"], error), (&json!("failed"), format!("error: {message}")));
    // A run that does not start has no events.
    let (_, events, _) = run(&["--overwrite", "--device", "wgpu:99"]);
    assert_eq!(events, Vec::<Value>::new());
}

#[test]
fn one_clip_is_printed_in_the_singular() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let more = ["--test-run", "--test-batches=1", "--batch-size=1", "--max-views=1"];
    let output = train(&data, &folder.path().join("run"), &more).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("the 1 clip of a step in one pass"), "{said}");
    let sizes = ["--clips=1", "--frames-per-clip=2", "--img-height=16", "--img-width=16"];
    let bench = ["bench", "--device=cpu", "--backbone-name=r3d_tiny", "--steps=1"];
    let output = polyview(&[&bench[..], &sizes].concat());
    assert!(text(&output.stdout).contains(", 1 clip of 2×16×16"), "{}", text(&output.stdout));
    let output =
        polyview(&[&["bench", "--roofline", "--backbone-name=r3d_tiny"], &sizes[..]].concat());
    assert!(text(&output.stdout).contains(", 1 clip of 2×16×16"), "{}", text(&output.stdout));
}
