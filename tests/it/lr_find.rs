//! The learning-rate range test.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use polyview::config::Config;
use polyview::report::Event;
use polyview::report::lr_chart::LrChart;
use polyview::train::{LrCurve, LrEnd, TrainError, lr_find};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{command, last_error, text};
use crate::common::run::{small_config, with};

/// Runs the test without interruption.
fn find(config: &Config, steps: usize, from: f64, to: f64) -> Result<LrCurve, TrainError> {
    lr_find(config, steps, from..=to, &AtomicBool::new(false), &mut |_: &Event| {})
}

#[test]
fn rates_rise_over_several_epochs_and_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --batch-size 4");
    let mut heard = Vec::new();
    let mut observer = |event: &Event| {
        if let Event::Step { done, .. } = event {
            heard.push(*done);
        }
    };
    // An epoch has only a few steps, so the test takes several epochs.
    let curve = lr_find(&config, 20, 1e-6..=0.1, &AtomicBool::new(false), &mut observer).unwrap();
    assert_eq!(heard, (1..=20).collect::<Vec<_>>());
    assert_eq!((curve.points.len(), curve.end, curve.option), (20, LrEnd::Finished, "lr"));
    assert_eq!(curve.trained, ["heads", "stem", "layer1", "layer2", "layer3", "layer4"]);
    assert!((curve.points[0].rate / 1e-6 - 1.0).abs() < 1e-9);
    assert!((curve.points[19].rate / 0.1 - 1.0).abs() < 1e-9);
    for pair in curve.points.windows(2) {
        assert!((pair[1].rate / pair[0].rate / 1e5f64.powf(1.0 / 19.0) - 1.0).abs() < 1e-9);
    }
    assert!((curve.points[0].smoothed - curve.points[0].loss).abs() < 1e-12);
    assert!(!config.run.save_dir.exists());

    // The test repeats exactly; the losses depend on what is trained.
    assert_eq!(find(&config, 20, 1e-6, 0.1).unwrap(), curve);
    let heads = find(&with(&config, "--gradual-finetuning"), 20, 1e-6, 0.1).unwrap();
    assert_eq!((heads.option, &heads.trained[..]), ("head-lr", &["heads".to_owned()][..]));
    assert!(heads.points[19].loss != curve.points[19].loss);

    // All actions are in each batch, so dropout is the only noise.
    let curve = find(&with(&config, "--batch-size 12"), 40, 1e-5, 0.1).unwrap();
    let suggestion = curve.suggestion.expect("the loss falls clearly");
    assert!((3e-4..=3e-2).contains(&suggestion), "{suggestion}");
}

#[test]
fn it_ends_when_the_loss_diverges_and_when_the_user_stops_it() {
    let folder = TempDir::new().unwrap();
    let config = with(
        &small_config(&folder),
        "--no-gradual-finetuning --optimizer sgd --gradient-clip-norm 0 --batch-size 4",
    );
    let curve = find(&config, 40, 1e-3, 1e12).unwrap();
    assert_eq!(curve.end, LrEnd::Diverged);
    assert!((1..40).contains(&curve.points.len()), "{}", curve.points.len());

    let stop = AtomicBool::new(false);
    let mut steps = 0;
    let mut observer = |event: &Event| {
        steps += usize::from(matches!(event, Event::Step { .. }));
        stop.store(steps == 12, Ordering::Relaxed);
    };
    let curve = lr_find(&config, 40, 1e-7..=1e-3, &stop, &mut observer).unwrap();
    assert_eq!((curve.points.len(), curve.end), (12, LrEnd::Interrupted));
}

#[test]
fn an_unusable_range_is_refused() {
    let folder = TempDir::new().unwrap();
    let config = small_config(&folder);
    for (steps, from, to, name) in
        [(19, 1e-7, 1.0, "steps"), (20, 0.0, 1.0, "from"), (20, 0.1, 0.1, "to")]
    {
        let error = find(&config, steps, from, to).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name} ")), "{error}");
    }
}

#[test]
fn program_draws_the_curve_and_suggests_a_rate() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let run = |more: &[&str]| {
        let mut program = command(&["lr-find", "--dataset-root"]);
        program.arg(&data).current_dir(folder.path()).args(
            "--backbone-name r3d_tiny --frames-per-clip 2 --start-frame 2 --end-frame 5 \
             --target-fps 25 --img-height 16 --img-width 16 --batch-size 4 --num-workers 0 \
             --device cpu --simple-training --steps 20 --from 1e-5"
                .split_whitespace(),
        );
        program.args(more).output().unwrap()
    };
    let output = run(&[]);
    let words = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(words.contains("1.0e-5") && words.contains("lr-find.svg: "), "{words}");
    let svg = fs::read_to_string(folder.path().join("lr-find.svg")).unwrap();
    assert!(svg.contains("<svg") && svg.contains("learning rate"), "{svg}");
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["data", "lr-find.svg"]);

    let output = run(&["--json", "--out", "other.svg"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let points = json["points"].as_array().unwrap();
    assert_eq!((points.len(), &json["option"]), (20, &Value::from("lr")));
    assert!(points.iter().all(|point| point["loss"].as_f64().unwrap() > 0.0));
    assert!(folder.path().join("other.svg").exists());

    // These are refused before training starts.
    for (out, reason) in [("x.png", "must end with .svg"), ("none/x.svg", "there is no folder")] {
        let output = run(&["--out", out]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        assert!(last_error(&output).contains(reason), "{}", last_error(&output));
    }

    let output = run(&["--to", "1e-6"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(last_error(&output).starts_with("error: --to 0.000001: must be above --from"));
}

#[test]
fn the_picture_shows_the_given_values() {
    let chart = LrChart {
        rates: vec![1e-6, 1e-4, 1e-2],
        losses: vec![2.0, 1.0, f64::INFINITY],
        smoothed: vec![2.0, 1.5, 1e9],
        suggestion: Some(1e-4),
    };
    let svg = chart.draw().unwrap();
    assert!(svg.contains("suggestion 1.0e-4") && !svg.contains("NaN") && !svg.contains("inf"));
    for rates in [vec![], vec![1e-3]] {
        let (losses, smoothed) = (rates.clone(), rates.clone());
        let chart = LrChart { rates, losses, smoothed, suggestion: None };
        assert!(!chart.draw().unwrap().contains("NaN"));
    }
}
