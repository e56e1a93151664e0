//! A network that cannot memorise a handful of actions has wrong gradients.

use std::path::Path;

use polyview::config::Config;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::clips::sample_folder;
use crate::common::data::synthetic_set;
use crate::common::run::{defaults_with, run, saving_to, with, with_args};

/// Plain cross-entropy at a constant learning rate: one step per epoch, no randomness except in the
/// initial weights, and no regularisation.
const PLAIN: &str = "--backbone-name r3d_tiny --device cpu --num-workers 0 --seed 1 \
    --augmentation-strength none --loss-function plain --label-smoothing 0 \
    --main-task-weights 1 1 --no-use-class-balanced-sampler --dropout-rate 0 --weight-decay 0 \
    --scheduler none --early-stopping-patience 0 --target-fps 25";

/// Options that train every layer, at one learning rate.
const ALL_LAYERS: &str = "--no-gradual-finetuning --freezing-strategy none --lr 2e-3";

/// Returns the configuration of [`PLAIN`] and `options` on a data set, with the run's files in
/// `folder`.
fn config(root: &Path, folder: &TempDir, options: &str) -> Config {
    let config = with_args(&defaults_with(PLAIN), &["--dataset-root", root.to_str().unwrap()]);
    with(&saving_to(&config, &folder.path().join("run")), &format!("{options} --overwrite"))
}

/// Trains and returns the training loss of each epoch: the sum of both tasks' cross-entropies.
fn losses(config: &Config) -> Vec<f64> {
    let losses = run(config).history.iter().map(|epoch| epoch.train.loss).collect();
    println!("overfit: {losses:.3?}");
    losses
}

#[test]
fn six_synthetic_actions_are_memorised() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    synthetic_set(&data, 6);
    let clips = "--batch-size 6 --frames-per-clip 4 --start-frame 2 --end-frame 9 \
                 --img-height 32 --img-width 32";
    let clips = config(&data, &folder, clips);
    let full = losses(&with(&clips, &format!("{ALL_LAYERS} --epochs 20")));
    // ln 4 + ln 8, the loss of equal probabilities.
    assert!((full[0] - 3.47).abs() < 0.7, "not the loss of an untrained network: {full:?}");
    // Equivalent to a probability of 98 % for the correct class of each task.
    assert!(full[19] < 0.04, "{full:?}");
    // Heads on a random backbone do not reach this, nor would they on one whose gradients are
    // wrong.
    let heads = "--phase1-epochs 20 --phase2-epochs 1 --head-lr 2e-3";
    let heads = losses(&with(&clips, heads));
    assert!(heads[19] > 1.0, "the clips are too easy, even heads alone memorise them: {heads:?}");
}

/// Checks that a network also learns with activations in half precision.
#[test]
fn six_synthetic_actions_are_memorised_in_half_precision() {
    let Some(device) = adapter::name() else { return };
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    synthetic_set(&data, 6);
    let clips = "--batch-size 6 --frames-per-clip 4 --start-frame 2 --end-frame 9 \
                 --img-height 32 --img-width 32";
    let clips = config(&data, &folder, &format!("{clips} {ALL_LAYERS} --epochs 20"));
    let half = losses(&with(&clips, &format!("--device {device} --precision f16")));
    assert!((half[0] - 3.47).abs() < 0.7, "not the loss of an untrained network: {half:?}");
    assert!(half[19] < 0.04, "{half:?}");
}

#[test]
fn three_real_actions_are_memorised() {
    let Some(sample) = sample_folder() else { return };
    let folder = TempDir::new().unwrap();
    let clips = "--batch-size 3 --frames-per-clip 8 --img-height 48 --img-width 64";
    let clips = config(&sample, &folder, clips);
    let losses = losses(&with(&clips, &format!("{ALL_LAYERS} --epochs 30")));
    assert!(losses[0] > 1.0, "not the loss of an untrained network: {losses:?}");
    assert!(losses[29] < 0.1, "{losses:?}");
}
