//! Runs that do not resume from their folder's last checkpoint: in another folder, from an earlier
//! epoch, with other data.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use polyview::checkpoint::{self, CheckpointInfo};
use polyview::config::Config;
use polyview::train::Outcome;
use tempfile::TempDir;

use crate::common::program::{last_error, text, train};
use crate::common::resume::{run_some, weights};
use crate::common::run::{run, saving_to, small_config, with};

fn info(weights: &Path) -> CheckpointInfo {
    checkpoint::load(weights, &Device::flex()).unwrap().1
}

/// Checks that the best weights in a folder are those of the best epoch in its history.
fn check_best(config: &Config, outcome: &Outcome) {
    let best = outcome.best().expect("an epoch is finished");
    let there = info(&config.run.save_dir.join(checkpoint::BEST));
    assert_eq!(there.epoch, best.epoch);
    // Read from JSON, the score may differ in its last digit.
    assert!((there.score.unwrap() - best.score).abs() < 1e-12);
}

/// Returns the configuration of a run in one phase, whose later epochs are no better: they change
/// nothing.
fn stalled(folder: &TempDir) -> Config {
    with(&small_config(folder), "--no-gradual-finetuning --epochs 1 --lr 1e-12 --keep 4")
}

#[test]
fn best_weights_are_copied_to_another_folder() {
    let folder = TempDir::new().unwrap();
    let old = stalled(&folder);
    let bar = with(&old, "--epochs 1");
    run(&bar);
    let from = old.run.save_dir.join(checkpoint::LAST);
    let resume = format!("--epochs 2 --resume {}", from.display());
    let new = saving_to(&with(&old, &resume), &folder.path().join("new"));
    let outcome = run(&new);
    assert_eq!(outcome.history.len(), 2);
    assert!(!outcome.history[1].best, "the test needs an epoch that is not better");
    check_best(&new, &outcome);
    assert!(new.run.save_dir.join(checkpoint::VALID_PREDICTIONS).exists());
    // The run's folder can be given in place of its last checkpoint.
    let folder_of = old.run.save_dir.display();
    let again = saving_to(
        &with(&old, &format!("--epochs 2 --resume {folder_of}")),
        &folder.path().join("again"),
    );
    check_best(&again, &run(&again));
    assert!(weights(&again) == weights(&new));

    // The weights that the run resumes from may themselves be the best ones.
    fs::remove_file(old.run.save_dir.join(checkpoint::BEST)).unwrap();
    let itself = saving_to(&with(&old, &resume), &folder.path().join("itself"));
    let outcome = run(&itself);
    assert!(!outcome.history[1].best);
    check_best(&itself, &outcome);
    assert!(
        fs::read(itself.run.save_dir.join(checkpoint::BEST)).unwrap() == fs::read(&from).unwrap()
    );
    // But not weights from the middle of the next epoch, which carry the number of the best one.
    assert!(run_some(&with(&old, "--epochs 2 --resume auto"), 1));
    let middle = format!("--epochs 2 --resume {}", from.display());
    let middle = saving_to(&with(&old, &middle), &folder.path().join("middle"));
    let outcome = run(&middle);
    assert!(outcome.history[1].best);
    check_best(&middle, &outcome);
    // Without the old best weights, the next epoch is the best of those available.
    run(&with(&old, "--epochs 2 --resume auto"));
    let resume = format!("--epochs 3 --resume {}", from.display());
    let lost = saving_to(&with(&old, &resume), &folder.path().join("lost"));
    let outcome = run(&lost);
    assert!(outcome.history[2].best);
    check_best(&lost, &outcome);
}

#[test]
fn going_back_to_an_earlier_epoch_keeps_the_later_best_weights() {
    let folder = TempDir::new().unwrap();
    let config = with(&stalled(&folder), "--epochs 3 --lr 1e-2");
    let outcome = run(&config);
    // If the first epoch is the best, the last weights stand in for the later best ones.
    let save = &config.run.save_dir;
    let first = save.join("epoch-0001.safetensors");
    let best = outcome.best().unwrap().epoch;
    if best == 1 {
        fs::copy(save.join(checkpoint::LAST), save.join(checkpoint::BEST)).unwrap();
    }
    let kept = fs::read(save.join(checkpoint::BEST)).unwrap();
    let back = with(&config, &format!("--epochs 2 --resume {}", first.display()));
    let outcome = run(&back);
    check_best(&back, &outcome);
    assert!(fs::read(save.join("previous-001/best.safetensors")).unwrap() == kept);
    assert!(!save.join("previous-001/last.safetensors").exists());
}

#[test]
fn a_given_best_score_counts_once() {
    let folder = TempDir::new().unwrap();
    let config = with(&stalled(&folder), "--epochs 1 --keep 0");
    let score = run(&config).history[0].score;
    // Like a job that is restarted with the same command.
    let again = |epochs: usize| {
        let options = format!("--epochs {epochs} --resume auto --resume-best-acc 0");
        run(&with(&config, &options)).history
    };
    let second = again(2);
    assert!(score > 0.0 && second[1].best);
    assert!(!again(3)[2].best, "the third epoch must beat the second one's score");
}

#[test]
fn a_checkpoint_within_an_epoch_names_the_last_finished_one() {
    let folder = TempDir::new().unwrap();
    let config = with(&stalled(&folder), "--epochs 2 --batch-size 5");
    let whole = saving_to(&config, &folder.path().join("whole"));
    assert!(run_some(&whole, 5));
    run(&with(&config, "--epochs 1"));
    assert!(run_some(&with(&config, "--resume auto"), 2));
    let named = info(&config.run.save_dir.join(checkpoint::LAST));
    assert_eq!(named.epoch, 1);
    assert_eq!(named.score, info(&whole.run.save_dir.join(checkpoint::LAST)).score);
}

#[test]
fn changed_data_are_noticed() {
    let folder = TempDir::new().unwrap();
    let config = stalled(&folder);
    run(&config);
    let data = folder.path().join("data");
    let resume = |more: &[&str]| {
        let args = [&["--resume", "auto", "--no-gradual-finetuning"], more].concat();
        train(&data, &config.run.save_dir, &args).output().unwrap()
    };
    let changed = "the training or validation split has different actions, labels or views";
    let output = resume(&["--epochs", "2"]);
    assert!(output.status.success(), "{}", last_error(&output));
    assert!(!text(&output.stderr).contains(changed), "{}", text(&output.stderr));
    let file = data.join("mvfouls/train/annotations.json");
    let annotations = fs::read_to_string(&file).unwrap();
    let corrected = annotations.replacen("\"Standing tackling\"", "\"Tackling\"", 1);
    assert_ne!(corrected, annotations);
    fs::write(&file, corrected).unwrap();
    let output = resume(&["--epochs", "3"]);
    assert!(text(&output.stderr).contains(changed), "{}", text(&output.stderr));
}
