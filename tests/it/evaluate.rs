//! `evaluate` and `predict`: metrics by definition, independence of the views' order, SoccerNet's file
//! format.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use polyview::checkpoint;
use polyview::data::Dataset;
use polyview::evaluate::{
    ActionPrediction, Averaging, PredictOptions, Thresholds, predict_dataset, split_metrics,
};
use polyview::metrics::ConfusionMatrix;
use polyview::schema::Schema;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::clips::picture_clip;
use crate::common::program::{last_error, polyview, text};
use crate::common::run::{run, small_config, with};

/// Trains a network and returns its checkpoint and its data set.
fn trained(folder: &TempDir) -> (PathBuf, PathBuf) {
    let config = with(&small_config(folder), "--no-gradual-finetuning --epochs 1");
    run(&config);
    (config.run.save_dir.join(checkpoint::BEST), config.data.dataset_root)
}

fn evaluate(checkpoint: &Path, root: &Path, more: &[&str]) -> std::process::Output {
    let (checkpoint, root) = (checkpoint.to_str().unwrap(), root.to_str().unwrap());
    let mut args = vec!["evaluate", "--checkpoint", checkpoint, "--dataset-root", root];
    args.extend(["--device", "cpu"]);
    args.extend(more);
    polyview(&args)
}

#[test]
fn metrics_are_those_of_the_predicted_actions() {
    let schema = Schema::mvfoul().unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    for count in [1, 7, 40] {
        let judged: Vec<ActionPrediction> = (0..count)
            .map(|number| {
                let mut draw = |classes: usize| -> Vec<f64> {
                    // A few distinct values, so that ties occur.
                    (0..classes).map(|_| f64::from(rng.random_range(0..4u8)) / 4.0).collect()
                };
                let probabilities = vec![draw(4), draw(8)];
                ActionPrediction {
                    action: number.to_string(),
                    // The last one has no labels and does not count.
                    labels: match number {
                        39 => vec![],
                        _ => vec![Some(number % 3), Some(number % 8)],
                    },
                    probabilities,
                    views: vec![0],
                    shares: vec![1.0],
                    averaged: 1,
                }
            })
            .collect();
        let ours = split_metrics(&schema, &judged, None).unwrap();
        let labelled = &judged[..count.min(39)];
        assert_eq!(ours.actions, labelled.len());
        let mut balanced = 0.0;
        for (task, classes) in [(0, 4), (1, 8)] {
            let first_of_the_largest = |values: &Vec<f64>| {
                let largest = values.iter().copied().fold(0.0, f64::max);
                values.iter().position(|v| *v == largest).unwrap()
            };
            let labels: Vec<usize> = labelled.iter().map(|j| j.labels[task].unwrap()).collect();
            let predicted: Vec<usize> =
                labelled.iter().map(|j| first_of_the_largest(&j.probabilities[task])).collect();
            let matrix = ConfusionMatrix::from_pairs(classes, &labels, &predicted).unwrap();
            let wrong = labels.iter().zip(&predicted).filter(|(l, p)| l != p).count();
            let figures = &ours.tasks[task];
            assert_eq!(figures.confusion, matrix.rows());
            assert_eq!(figures.accuracy, Some(matrix.accuracy()));
            assert_eq!(figures.mistakes.len(), wrong);
            let surest = |m: &[polyview::evaluate::Mistake]| {
                m.windows(2).all(|pair| pair[0].probability >= pair[1].probability)
            };
            assert!(surest(&figures.mistakes));
            balanced += matrix.balanced_accuracy() / 2.0;
        }
        assert!((ours.score.unwrap() - balanced).abs() < 1e-12);
    }
}

#[test]
fn evaluate_writes_predictions_that_its_own_evaluator_reads() {
    let folder = TempDir::new().unwrap();
    let (checkpoint, root) = trained(&folder);
    let out = folder.path().join("predictions.json");
    let out = out.to_str().unwrap();
    let output = evaluate(&checkpoint, &root, &["--predictions", out, "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written: Value = serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap();
    assert_eq!(written["Set"], "test");
    assert_eq!(written["Actions"].as_object().unwrap().len(), 16);
    let truth = root.join("mvfouls/test/annotations.json");
    let truth = truth.to_str().unwrap();
    let args = ["evaluate", "--predictions", out, "--ground-truth", truth, "--json"];
    let official = polyview(&args);
    assert!(official.status.success(), "{}", text(&official.stderr));
    // The data set, whatever the split, and a run's files are never overwritten.
    let clips =
        ["test", "train"].map(|split| root.join(format!("mvfouls/{split}/action_0/clip_0.mp4")));
    let of_run = ["config.toml", "history.json", "valid_predictions.csv"]
        .map(|name| checkpoint.with_file_name(name));
    let before = of_run.each_ref().map(|path| std::fs::read(path).unwrap());
    for (path, why) in [
        (Path::new(truth), "belongs to the data set"),
        (&clips[0], "belongs to the data set"),
        (&clips[1], "belongs to the data set"),
        (&checkpoint, "is a checkpoint"),
        (&of_run[0], "already exists and is not a file of predictions; choose another file"),
        (&of_run[1], "is not a file of predictions"),
        (&of_run[2], "belongs to a run; choose another file"),
    ] {
        let refused = evaluate(&checkpoint, &root, &["--predictions", path.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
    assert!(of_run.map(|path| std::fs::read(path).unwrap()) == before);
    // Earlier predictions are overwritten, those in another format too.
    let again = evaluate(&checkpoint, &root, &["--predictions", out, "--split", "valid"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(std::fs::read_to_string(out).unwrap().contains("\"Set\": \"valid\""));
    let again = evaluate(&checkpoint, &root, &["--predictions", out]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    // Options that would be ignored are refused.
    let ignored = polyview(&[&args[..], &["--split", "valid"]].concat());
    assert_eq!(ignored.status.code(), Some(2));
    assert!(text(&ignored.stderr).contains("--split"), "{}", text(&ignored.stderr));
    let official: Value = serde_json::from_slice(&official.stdout).unwrap();
    assert_eq!(official["official"], figures["official"]["official"]);
    let per_cent = official["official"]["balanced_accuracy_action"].as_f64().unwrap();
    let ours = figures["figures"]["tasks"][1]["balanced_accuracy"].as_f64().unwrap();
    assert!((per_cent - 100.0 * ours).abs() < 1e-9);
    // As text: tables, mistakes, the leaderboard.
    let output = evaluate(&checkpoint, &root, &["--split", "valid", "--mistakes", "1"]);
    let words = text(&output.stdout);
    for word in ["precision", "predicted", "leaderboard_value", "score 0.", "Offence + Red card"] {
        assert!(words.contains(word), "{word:?} is not in {words}");
    }
    // The split and the checkpoint must exist, and there must be something to evaluate.
    for (more, word) in [
        (&["--split", "challenge"] as &[&str], "challenge"),
        (&["--split", "x"], "train, valid, test, challenge"),
        (&["--schema", "absent.toml"], "absent.toml"),
    ] {
        let output = evaluate(&checkpoint, &root, more);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
    let output = evaluate(&root.join("no.safetensors"), &root, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let bare = polyview(&["evaluate", "--dataset-root", root.to_str().unwrap()]);
    assert_eq!(bare.status.code(), Some(2));

    assert_eq!(figures["unreadable_views"], 0);
    std::fs::write(root.join("mvfouls/test/action_0/clip_1.mp4"), b"").unwrap();
    let output = evaluate(&checkpoint, &root, &["--json"]);
    let said = "1 of the 32 views of the test split cannot be read";
    assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["unreadable_views"], 1);
}

#[test]
fn a_split_without_labels_is_predicted() {
    let folder = TempDir::new().unwrap();
    let (checkpoint, root) = trained(&folder);
    let split = root.join("mvfouls");
    std::fs::rename(split.join("test"), split.join("challenge")).unwrap();
    let path = split.join("challenge/annotations.json");
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for action in file["Actions"].as_object_mut().unwrap().values_mut() {
        action.as_object_mut().unwrap().retain(|name, _| name == "Clips");
    }
    std::fs::write(&path, file.to_string()).unwrap();
    let out = folder.path().join("challenge.json");
    let more = ["--split", "challenge", "--json", "--predictions", out.to_str().unwrap()];
    let output = evaluate(&checkpoint, &root, &more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no labels"), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["split"], &report["figures"]), (&"challenge".into(), &Value::Null));
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(written["Actions"].as_object().unwrap().len(), 16);
}

fn predict(checkpoint: &Path, clips: &[&Path]) -> Vec<Value> {
    let mut args = vec!["predict", "--checkpoint", checkpoint.to_str().unwrap(), "--json"];
    args.extend(["--device", "cpu", "--top", "8"]);
    args.extend(clips.iter().map(|clip| clip.to_str().unwrap()));
    let output = polyview(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("clips/s"), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn predict_does_not_depend_on_the_order_of_the_views() {
    let folder = TempDir::new().unwrap();
    let (checkpoint, root) = trained(&folder);
    let action = root.join("mvfouls/test/action_3");
    let (a, b) = (action.join("clip_0.mp4"), action.join("clip_1.mp4"));
    let one_way = predict(&checkpoint, &[&a, &b]);
    let other_way = predict(&checkpoint, &[&b, &a]);
    let share = |said: &[Value], clip: &Path| -> f64 {
        let views = said[0]["views"].as_array().unwrap();
        let view = views.iter().find(|view| view["clip"] == clip.to_str().unwrap());
        view.unwrap()["share"].as_f64().unwrap()
    };
    assert!((share(&one_way, &a) + share(&one_way, &b) - 1.0).abs() < 1e-6);
    assert!((share(&one_way, &a) - share(&other_way, &a)).abs() < 1e-6);
    for task in ["offence_severity", "action_class"] {
        let confidences = |said: &[Value]| -> Vec<f64> {
            let classes = said[0]["tasks"][task].as_array().unwrap();
            classes.iter().map(|class| class["confidence"].as_f64().unwrap()).collect()
        };
        let (ours, theirs) = (confidences(&one_way), confidences(&other_way));
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!((ours.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        assert!(ours.windows(2).all(|pair| pair[0] >= pair[1]));
    }
    // A folder of clips is an action; a folder of such folders is many, in natural order. Hidden
    // files and folders are neither.
    let hidden = root.join("mvfouls/test/.Trashes");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::copy(&a, hidden.join("clip_0.mp4")).unwrap();
    std::fs::write(action.join("._clip_0.mp4"), "no clip").unwrap();
    let folder_way = predict(&checkpoint, &[&action]);
    assert_eq!(folder_way[0]["tasks"], one_way[0]["tasks"]);
    assert_eq!(folder_way[0]["views"].as_array().unwrap().len(), 2);
    // A clip that cannot be read loses only its own view, and is named.
    let broken = folder.path().join("broken.mp4");
    std::fs::write(&broken, "no clip").unwrap();
    let args = ["predict", "--json", "--top", "8", "--device", "cpu", "--checkpoint"];
    let [a_text, b_text, broken_text] = [&a, &b, &broken].map(|path| path.to_str().unwrap());
    let more = [checkpoint.to_str().unwrap(), a_text, b_text, broken_text];
    let output = polyview(&[&args[..], &more].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("broken.mp4"), "{}", text(&output.stderr));
    let with_broken: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(with_broken[0]["tasks"], one_way[0]["tasks"]);
    let all = predict(&checkpoint, &[&root.join("mvfouls/test")]);
    let names: Vec<&str> = all.iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[2], names[10]), (16, "action_2", "action_10"));
    for (args, word) in [(vec!["absent.mp4"], "no such clip"), (vec![], "CLIP")] {
        let mut all = vec!["predict", "--checkpoint", checkpoint.to_str().unwrap()];
        all.extend(args);
        let output = polyview(&all);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
}

#[test]
fn predictions_do_not_depend_on_batches_or_workers() {
    let folder = TempDir::new().unwrap();
    let (checkpoint, root) = trained(&folder);
    let device = Device::flex();
    let (net, info) = checkpoint::load(&checkpoint, &device).unwrap();
    // There are too few actions for calibration.
    let calibration = info.calibration.unwrap();
    let counts: Vec<usize> = calibration.tasks.iter().map(|task| task.actions).collect();
    assert_eq!((calibration.temperatures(), counts), (vec![1.0; 2], vec![16; 2]));
    let input = info.input.unwrap();
    let schema = Schema::mvfoul().unwrap();
    let data = Dataset::open(&root, "test", &schema, input.window, input.size, None).unwrap();
    let data = Arc::new(data);
    let ask_at = |batch_size, workers, temperatures: &[f64], thresholds: &[Thresholds]| {
        let (inputs, averaging) = (Vec::new(), Averaging::NONE);
        let options = PredictOptions {
            batch_size,
            workers,
            max_clips: usize::MAX,
            inputs,
            averaging,
            temperatures: temperatures.to_vec(),
            thresholds: thresholds.to_vec(),
        };
        predict_dataset(&net, &data, &options, &device, &mut |_, _| {}).unwrap()
    };
    let ask = |batch_size, workers| ask_at(batch_size, workers, &[], &[]);
    let (alone, together) = (ask(1, 0), ask(5, 2));
    assert_eq!(alone.len(), 16);
    for (a, b) in alone.iter().zip(&together) {
        assert_eq!((&a.action, &a.labels, &a.views), (&b.action, &b.labels, &b.views));
        for (a, b) in a.probabilities.concat().iter().zip(b.probabilities.concat()) {
            assert!((a - b).abs() < 1e-5);
        }
    }
    // Dividing logits divides differences of log-probabilities; the other task does not change.
    for (plain, cooler) in together.iter().zip(ask_at(5, 2, &[4.0, 1.0], &[])) {
        let difference = |of: &[f64]| of[1].ln() - of[0].ln();
        let [plain_one, cooler_one] =
            [&plain.probabilities[0], &cooler.probabilities[0]].map(|all| difference(all));
        assert!((plain_one - 4.0 * cooler_one).abs() < 1e-4);
        assert_eq!(plain.probabilities[1], cooler.probabilities[1]);
        assert_eq!(plain.predicted(0), cooler.predicted(0));
    }
    let threshold = Thresholds { classes: vec![1.0, 1.0, 1e-4, 1.0], before: 0.0, after: 0.0 };
    for (plain, other) in together.iter().zip(ask_at(5, 2, &[], &[threshold])) {
        assert_eq!(other.predicted(0), 2, "its threshold is tiny");
        let odds = |of: &ActionPrediction| of.probabilities[0][2] / of.probabilities[0][1];
        assert!((odds(&other) / odds(plain) / 1e4 - 1.0).abs() < 1e-6);
        assert_eq!(plain.probabilities[1], other.probabilities[1]);
    }
    // The checkpoint has no thresholds either.
    let args = ["evaluate", "--class-thresholds", "--checkpoint", checkpoint.to_str().unwrap()];
    let output = polyview(&[&args[..], &["--dataset-root", root.to_str().unwrap()]].concat());
    let message = last_error(&output);
    assert!(message.contains("--class-thresholds") && message.contains("20 labelled"), "{message}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_network_that_is_not_sure_leaves_tasks_undecided() {
    let folder = TempDir::new().unwrap();
    let (checkpoint, root) = trained(&folder);
    let checkpoint = checkpoint.to_str().unwrap();
    let clip = root.join("mvfouls/test/action_0/clip_0.mp4");
    let ask = |least: &str| {
        let args = ["predict", "--checkpoint", checkpoint, "--min-confidence", least];
        let output = polyview(&[&args[..], &["--device", "cpu", clip.to_str().unwrap()]].concat());
        text(&output.stdout)
    };
    assert_eq!(ask("1").matches("undecided (").count(), 2);
    assert_eq!(ask("0").matches("undecided").count(), 0);
    let args = ["evaluate", "--checkpoint", checkpoint, "--dataset-root", root.to_str().unwrap()];
    let output =
        polyview(&[&args[..], &["--device", "cpu", "--min-confidence", "0", "--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let task = &report["figures"]["tasks"][0];
    assert_eq!(task["decided"]["share"], 1.0);
    assert_eq!(task["decided"]["accuracy"], task["accuracy"]);
}

#[test]
fn explain_draws_what_decided_the_prediction() {
    let folder = TempDir::new().unwrap();
    let (checkpoint, root) = trained(&folder);
    let picture = folder.path().join("why.png");
    let action = root.join("mvfouls/test/action_0");
    let args =
        ["predict", "--checkpoint", checkpoint.to_str().unwrap(), "--device", "cpu", "--explain"];
    let explain = |clips: &Path| {
        let more = [picture.to_str().unwrap(), clips.to_str().unwrap()];
        polyview(&[&args[..], &more].concat())
    };
    let output = explain(&action);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let drawn = image::open(&picture).unwrap().to_rgb8();
    // Two tasks, two views: rows of frames with captions.
    assert!(drawn.width() > 200 && drawn.height() > 4 * 32, "{:?}", drawn.dimensions());
    let output = explain(&root.join("mvfouls/test"));
    assert_eq!(output.status.code(), Some(2));
    assert!(last_error(&output).contains("--explain draws one action, but there are 16"));
    // A clip is never overwritten.
    let output = explain(&picture);
    assert_eq!(output.status.code(), Some(2));
    assert!(last_error(&output).contains("belongs to the data set"), "{}", last_error(&output));
    assert_eq!(image::open(&picture).unwrap().to_rgb8(), drawn);
    // The middle, which would be drawn, cannot be read, although other parts could be predicted.
    let frames = folder.path().join("frames");
    picture_clip(&frames, vec![image::RgbImage::new(32, 32); 60]);
    (20..40).for_each(|n| std::fs::write(frames.join(format!("{n}.png")), b"").unwrap());
    let more = [picture.to_str().unwrap(), frames.to_str().unwrap()];
    let several = ["--window", "dense", "--test-clips", "2"];
    let output = polyview(&[&args[..], &more, &several].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(
        last_error(&output).contains("no view can be read around its middle"),
        "{}",
        last_error(&output)
    );
}
