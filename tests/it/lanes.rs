//! Steps in lanes: the result depends only on the number of lanes, not on the devices.

use std::sync::atomic::{AtomicBool, Ordering};

use polyview::checkpoint;
use polyview::config::Config;
use polyview::report::Event;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::run::{run, saving_to, small_config, try_run, with};

/// Returns a configuration with phases, auxiliary heads for which some lanes have no label,
/// augmentation, dropout, and a last batch of two actions.
fn rich(folder: &TempDir) -> Config {
    let options = "--phase1-epochs 1 --phase2-epochs 2 --backbone-lr 1e-3 --unfreeze-blocks 2 \
                   --auxiliary-task-weight 0.5 --augmentation-strength aggressive --multi-scale \
                   --early-stopping-patience 0 --batch-size 5";
    with(&small_config(folder), options)
}

/// Reads the last checkpoint's weights, and the best one's predictions.
fn weights(config: &Config) -> Vec<u8> {
    let read = |name: &str| std::fs::read(config.run.save_dir.join(name)).unwrap();
    [read(checkpoint::LAST), read(checkpoint::VALID_PREDICTIONS)].concat()
}

struct Runs {
    folder: TempDir,
    config: Config,
}

impl Runs {
    fn new(options: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let config = with(&rich(&folder), options);
        Self { folder, config }
    }

    /// Returns the configuration with more options and its own save-dir.
    fn configured(&self, options: &str) -> Config {
        let name = options.replace([' ', '*', ',', ':'], "_");
        with(&saving_to(&self.config, &self.folder.path().join(name)), options)
    }

    fn weights(&self, options: &str) -> Vec<u8> {
        let config = self.configured(options);
        run(&config);
        weights(&config)
    }
}

fn devices_do_not_matter(device: &str, options: &str) {
    let runs = Runs::new(options);
    let by =
        |devices: &str, lanes: usize| runs.weights(&format!("--device {devices} --lanes {lanes}"));
    let two = by(device, 2);
    assert!(two == by(&format!("{device}*2"), 2), "{device}, {options}: 2 devices");
    assert!(two != by(device, 1), "{device}, {options}: lanes have no effect");
    let three = by(device, 3);
    assert!(three == by(&format!("{device}*2"), 3), "{device}, {options}: 3 lanes on 2 devices");
    assert!(three != two);
}

#[test]
fn the_number_of_devices_changes_no_bit_on_the_cpu() {
    devices_do_not_matter("cpu", "");
    devices_do_not_matter("cpu", "--sync-batch-norm --ema 0.9 --mixup 0.4 --cutmix 1");
}

#[test]
fn the_number_of_devices_changes_no_bit_on_an_adapter() {
    let Some(device) = adapter::name() else { return };
    devices_do_not_matter(device, "");
    devices_do_not_matter(device, "--precision f16");
}

#[test]
fn statistics_are_exchanged_on_an_adapter() {
    let Some(device) = adapter::name() else { return };
    let runs = Runs::new("--precision f16 --sync-batch-norm --lanes 3");
    let one = runs.weights(&format!("--device {device}"));
    assert!(one == runs.weights(&format!("--device {device}*2")));
}

#[test]
fn gradients_are_accumulated_within_lanes() {
    let runs = Runs::new("--micro-batch 1");
    let one = runs.weights("--device cpu --lanes 2");
    assert!(one == runs.weights("--device cpu*2"));
    let whole = Runs::new("--micro-batch 100");
    assert!(one != whole.weights("--device cpu*2"), "the micro-batch has no effect");
}

/// Uses passes of one clip, also with recomputed activations. Lanes have different numbers of passes;
/// the third lane of the last batch has none.
#[test]
fn statistics_are_exchanged_pass_by_pass() {
    let runs = Runs::new("--sync-batch-norm --micro-batch 1");
    let one = runs.weights("--device cpu --lanes 3");
    assert!(one == runs.weights("--device cpu*2 --lanes 3"));
    assert!(one == runs.weights("--device cpu*3 --gradient-checkpointing"));
    let whole = Runs::new("--sync-batch-norm");
    assert!(one != whole.weights("--device cpu*3"), "the micro-batch has no effect");
    assert!(one != Runs::new("--micro-batch 1").weights("--device cpu*3"), "it has no effect");
}

/// Lanes that exchange statistics compute the same as one lane does over the whole batch, running
/// statistics included, except for the order of the sums.
#[test]
fn synchronised_lanes_train_like_the_whole_batch() {
    let options = "--phase1-epochs 1 --phase2-epochs 2 --backbone-lr 1e-3 --device cpu";
    let losses = |options: &str, lanes: usize| -> Vec<f64> {
        let runs = Runs::new(options);
        let outcome = run(&runs.configured(&format!("--lanes {lanes}")));
        outcome.history.iter().flat_map(|epoch| [epoch.train.loss, epoch.valid.loss]).collect()
    };
    let error = |one: &[f64], other: &[f64]| -> f64 {
        one.iter().zip(other).map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max)
    };
    let one = losses(options, 1);
    let together = losses(&format!("{options} --sync-batch-norm"), 3);
    let separate = losses(options, 3);
    assert!(error(&one, &together) < 1e-3, "{one:?} {together:?}");
    assert!(error(&one, &separate) > 1e-2, "{one:?} {separate:?}");
}

/// Stops a run after `step` steps; returns whether it was interrupted.
fn stop_at(config: &Config, step: usize) -> bool {
    let stop = AtomicBool::new(false);
    let mut done = 0;
    let outcome = try_run(config, &stop, |event| {
        done += usize::from(matches!(event, Event::Step { .. }));
        stop.store(done >= step, Ordering::Relaxed);
    });
    outcome.unwrap().interrupted
}

#[test]
fn a_run_resumes_bit_for_bit_on_other_devices() {
    let runs = Runs::new("");
    let expected = runs.weights("--device cpu*2");
    let cut = with(&runs.configured("--device cpu*2"), "--overwrite");
    let cut = saving_to(&cut, &runs.folder.path().join("cut"));
    assert!(stop_at(&cut, 2));
    // A resumed run has the checkpoint's number of lanes.
    assert!(stop_at(&with(&cut, "--resume auto --device cpu"), 4));
    let end = with(&cut, "--resume auto --device cpu,cpu");
    run(&end);
    assert!(weights(&end) == expected);
}

#[test]
fn too_few_lanes_or_actions_are_refused() {
    let folder = TempDir::new().unwrap();
    let never = AtomicBool::new(false);
    let refused = |options: &str| {
        let config = with(&small_config(&folder), options);
        try_run(&config, &never, |_| {}).unwrap_err().to_string()
    };
    let error = refused("--device cpu*3 --lanes 2");
    assert_eq!(error, "3 devices need at least 3 lanes, but the run has 2");
    let error = refused("--device cpu*3 --batch-size 2");
    assert_eq!(error, "3 lanes need a batch of at least 3 actions, but it has 2");
}

/// Each lane is a micro-batch of its own: where no batch norm is involved, the lanes' gradients are
/// those of the whole batch.
#[test]
fn lanes_of_heads_have_the_gradients_of_the_batch() {
    let options = "--phase1-epochs 2 --phase2-epochs 1 --backbone-lr 1e-3 --device cpu \
                   --dropout-rate 0.3";
    let runs = Runs::new(options);
    let losses = |lanes: usize| {
        let outcome = run(&runs.configured(&format!("--lanes {lanes}")));
        outcome.history[..2].iter().map(|epoch| (epoch.train.loss, epoch.valid.loss)).collect()
    };
    let (one, four): (Vec<_>, Vec<_>) = (losses(1), losses(4));
    for ((train, valid), (train_four, valid_four)) in one.into_iter().zip(four) {
        assert!((train - train_four).abs() < 1e-5 * train, "{train} {train_four}");
        assert!((valid - valid_four).abs() < 1e-5 * valid, "{valid} {valid_four}");
    }
}
