//! A run that was interrupted, killed or ran out of disk space resumes as if nothing had happened.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use polyview::checkpoint;
use polyview::config::Config;
use polyview::model::MultiViewNet;
use polyview::model::state_dict::collect_net;
use polyview::report::EpochRecord;
use polyview::train::load_pair;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::data::small_set;
use crate::common::program::{Running, command, text, train};
use crate::common::resume::{resumed_equals_uninterrupted, run_some, timeless, weights};
use crate::common::run::{run, saving_to, small_config, try_run, with, with_args, write_config};
use crate::common::wait::until;

/// Returns the configuration of a run with everything that resuming could lose: phases, momentum
/// schedule, progressive sampler, augmentation, dropout, an auxiliary loss.
fn rich(folder: &TempDir) -> Config {
    with(
        &small_config(folder),
        "--phase1-epochs 2 --phase2-epochs 2 --backbone-lr 1e-3 --unfreeze-blocks 1 \
         --scheduler onecycle --progressive-class-balancing --progressive-epochs 3 \
         --augmentation-strength aggressive --multi-scale --auxiliary-task-weight 0.5 \
         --early-stopping-patience 0 --batch-size 5",
    )
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_run_on_the_cpu() {
    // 3 to 4 steps per epoch; stops in the middle of the first, at its end, in the second phase.
    resumed_equals_uninterrupted("cpu", rich, &[1, 3, 8]);
}

#[test]
fn a_resumed_run_reads_the_windows_that_the_uninterrupted_run_draws() {
    for window in ["dense", "segments"] {
        let drawn = |folder: &TempDir| {
            let run =
                format!("--no-gradual-finetuning --epochs 2 --batch-size 5 --window {window}");
            with(&small_config(folder), &run)
        };
        // Stops within the first epoch, and within the second one.
        resumed_equals_uninterrupted("cpu", drawn, &[1, 4]);
    }
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_run_in_micro_batches() {
    let pieces = |folder: &TempDir| {
        with(
            &rich(folder),
            "--micro-batch 2 --gradient-checkpointing --phase1-epochs 1 --phase2-epochs 1",
        )
    };
    resumed_equals_uninterrupted("cpu", pieces, &[2, 5]);
}

#[test]
fn averages_and_mixed_actions_are_resumed() {
    let averaged = |folder: &TempDir| {
        with(&rich(folder), "--ema 0.9 --mixup 0.4 --cutmix 1 --phase1-epochs 1 --phase2-epochs 1")
    };
    resumed_equals_uninterrupted("cpu", averaged, &[1, 5]);

    let folder = TempDir::new().unwrap();
    let config = averaged(&folder);
    run(&config);
    let saved = load_pair(&config.run.save_dir.join(checkpoint::LAST), &Device::flex()).unwrap();
    let values = |net: &MultiViewNet| collect_net(net, &saved.info.model).unwrap();
    let (average, trained) = (values(&saved.net), values(&saved.trained.unwrap()));
    let differ = |name: &str| average[name] != trained[name];
    assert!(
        differ("heads.action_class.0.weight") && differ("backbone.layer4.0.conv1.1.running_mean")
    );
    // Frozen layers do not differ.
    assert!(!differ("backbone.stem.0.weight") && !differ("backbone.stem.1.running_mean"));
    // A run without --ema continues from the trained weights.
    let plain = with(&config, "--no-test-run --resume auto --phase2-epochs 2");
    let options = toml::to_string(&plain).unwrap().replace("ema = 0.9\n", "");
    let plain: Config = toml::from_str(&options).unwrap();
    assert_eq!(plain.optimizer.ema, None);
    run(&plain);
    let saved = load_pair(&config.run.save_dir.join(checkpoint::LAST), &Device::flex()).unwrap();
    assert!(saved.trained.is_none() && saved.state.average.is_none());
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_run_on_an_adapter() {
    let Some(device) = adapter::name() else { return };
    let short = |folder: &TempDir| with(&rich(folder), "--phase1-epochs 1 --phase2-epochs 1");
    resumed_equals_uninterrupted(device, short, &[2]);
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_run_in_half_precision() {
    let Some(device) = adapter::name() else { return };
    let short = |folder: &TempDir| {
        with(&rich(folder), "--phase1-epochs 1 --phase2-epochs 1 --precision f16")
    };
    // Stops in the second phase too, where the loss scale may have changed.
    resumed_equals_uninterrupted(device, short, &[2, 5]);
}

/// The weights of the tasks' losses scale all gradients: here they are too large for the first loss
/// scales, which are halved between and after the interruptions.
#[test]
fn a_run_with_overflows_resumes_with_its_loss_scale() {
    let Some(device) = adapter::name() else { return };
    let overflowing = |folder: &TempDir| {
        with(
            &small_config(folder),
            "--no-gradual-finetuning --epochs 4 --precision f16 --main-task-weights 300 300 \
             --batch-size 4",
        )
    };
    let folder = TempDir::new().unwrap();
    let whole = with(&overflowing(&folder), &format!("--device {device}"));
    let history = run(&whole).history;
    let left_out: Vec<usize> = history.iter().map(|epoch| epoch.train.left_out).collect();
    assert!(left_out[0] == 3 && left_out[1] > 0 && left_out[3] == 0, "{left_out:?}");
    let state = |config: &Config| {
        let last = config.run.save_dir.join(checkpoint::LAST);
        load_pair(&last, &Device::flex()).unwrap().state
    };
    let expected = (state(&whole).loss_scale, timeless(&history), weights(&whole));
    let cut = saving_to(&with(&whole, "--resume auto"), &folder.path().join("cut"));
    // Stops in the first epoch, and in the next one, in which the scale is still being halved.
    assert!(run_some(&cut, 2) && state(&cut).loss_scale != expected.0);
    assert!(run_some(&cut, 2) && state(&cut).loss_scale != expected.0);
    let outcome = run(&cut);
    let found = (state(&cut).loss_scale, timeless(&outcome.history), weights(&cut));
    assert!(found.0.is_some() && (&found.0, &found.1) == (&expected.0, &expected.1), "{found:?}");
    assert!(found.2 == expected.2, "the weights differ");
}

#[test]
fn strategies_and_early_stopping_survive_a_resume() {
    let stalls = |folder: &TempDir| {
        with(
            &small_config(folder),
            "--no-gradual-finetuning --epochs 12 --freezing-strategy gradient_guided \
             --adaptive-patience 1 --adaptive-min-improvement 10.0 --scheduler reduce_on_plateau \
             --plateau-patience 0 --optimizer sgd --lr 1e-2",
        )
    };
    let folder = TempDir::new().unwrap();
    let whole = with(&stalls(&folder), "--early-stopping-patience 4");
    let uninterrupted = run(&whole);
    let epochs = uninterrupted.history.len();
    let cut = saving_to(&with(&whole, "--resume auto"), &folder.path().join("cut"));
    assert!(run_some(&cut, 2 * (epochs - 2) + 1));
    let outcome = run(&cut);
    assert_eq!(timeless(&outcome.history), timeless(&uninterrupted.history));
    assert!(weights(&cut) == weights(&whole));
    // A finished run is not trained further.
    let again = run(&cut);
    assert_eq!(again.history.len(), epochs);
}

#[test]
fn resuming_reports_what_differs() {
    let folder = TempDir::new().unwrap();
    let config = with(&rich(&folder), "--no-test-run");
    let short = with(&config, "--phase1-epochs 1 --phase2-epochs 1");
    run(&short);
    let last = short.run.save_dir.join(checkpoint::LAST);
    let resume = |change: Config| {
        let resumed = with_args(&change, &["--resume", last.to_str().unwrap()]);
        let resumed = saving_to(&resumed, &folder.path().join("other"));
        try_run(&resumed, &AtomicBool::new(false), |_| {})
    };
    let refused = |change: Config, words: &[&str]| {
        let error = resume(change).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error}");
        }
    };
    refused(with(&short, "--backbone-name mc3_18"), &["r3d_tiny", "mc3_18", "another checkpoint"]);
    refused(with(&short, "--no-attention-aggregation"), &["attention", "mean"]);
    refused(with(&short, "--auxiliary-task-weight 0.0"), &["auxiliary heads", "contact"]);
    // More epochs, from a file of another folder, with a score to beat.
    let longer = with(&short, "--phase2-epochs 2 --resume auto --resume-best-acc 1.0");
    let outcome = resume(longer).unwrap();
    assert_eq!(outcome.history.len(), 3);
    assert!(!outcome.history[2].best);
    // Either file of the pair can be given; a state beside other weights is refused.
    let saved = load_pair(&last.with_extension("state"), &Device::flex()).unwrap();
    assert_eq!((saved.state.epoch, saved.info.epoch), (2, 2));
    let other = folder.path().join("other").join(checkpoint::LAST);
    std::fs::copy(&last, &other).unwrap();
    let error = load_pair(&other, &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("belongs to other weights"), "{error}");
}

#[test]
fn kept_checkpoints_are_the_newest_and_can_be_resumed() {
    let folder = TempDir::new().unwrap();
    let config = with(&rich(&folder), "--keep 2");
    run(&config);
    let mut names: Vec<String> = std::fs::read_dir(&config.run.save_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("epoch-"))
        .collect();
    names.sort();
    let expected = [
        "epoch-0003.safetensors",
        "epoch-0003.state",
        "epoch-0004.safetensors",
        "epoch-0004.state",
    ];
    assert_eq!(names, expected);
    let third = config.run.save_dir.join("epoch-0003.safetensors");
    let resumed = with_args(&config, &["--resume", third.to_str().unwrap()]);
    let resumed = saving_to(&resumed, &folder.path().join("again"));
    run(&resumed);
    assert!(weights(&resumed) == weights(&config));
}

#[test]
fn a_folder_in_use_is_refused_and_a_stale_lock_is_taken_over() {
    let folder = TempDir::new().unwrap();
    let config = with(&rich(&folder), "--phase1-epochs 1 --phase2-epochs 1");
    std::fs::create_dir_all(&config.run.save_dir).unwrap();
    let lock = checkpoint::FolderLock::take(&config.run.save_dir).unwrap();
    let error = try_run(&config, &AtomicBool::new(false), |_| {}).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(error.contains("run: another run") && error.contains("writing there"), "{error}");
    drop(lock);
    // A killed process leaves the lock file, which no process holds.
    std::fs::write(config.run.save_dir.join(".lock"), "999999\n").unwrap();
    run(&config);
}

#[test]
fn twenty_five_kills_change_nothing() {
    const KILLS: usize = 25;
    const EPOCHS: usize = 30;
    let folder = TempDir::new().unwrap();
    // A checkpoint after every step, so that a kill loses nothing but what is being written.
    let options = "--phase1-epochs 10 --phase2-epochs 20 --checkpoint-minutes 1e-6 --keep 1";
    let config = with(&rich(&folder), options);
    assert_eq!(config.total_epochs(), EPOCHS);
    let file = write_config(&config, folder.path());
    let [uninterrupted, killed] = ["uninterrupted", "killed"].map(|name| folder.path().join(name));
    let train = |save_dir: &Path| {
        let save_dir = save_dir.to_str().unwrap();
        command(&["train", "-q", "--config", &file, "--save-dir", save_dir, "--resume", "auto"])
    };
    let finish = |save_dir: &Path| {
        let output = train(save_dir).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    finish(&uninterrupted);

    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut inside = 0;
    for kill in 0..KILLS {
        let run = Running::start(train(&killed));
        // Two steps or more, so that every run gets ahead of the one before it.
        assert!(run.steps(rng.random_range(2..5)), "the run was over before kill {kill}");
        // Alternately while a checkpoint is being written and while none is.
        let half_written = || killed.join("last.state.next").exists();
        until("a checkpoint", || half_written() == (kill % 2 == 0));
        run.kill();
        inside += usize::from(half_written());
    }
    println!("{KILLS} kills, {inside} of them while a checkpoint was being written");
    finish(&killed);
    let history = |folder: &Path| -> Vec<EpochRecord> {
        let text = std::fs::read_to_string(folder.join("history.json")).unwrap();
        timeless(&serde_json::from_str::<Vec<EpochRecord>>(&text).unwrap())
    };
    assert_eq!(history(&killed), history(&uninterrupted));
    let kept = format!("epoch-{EPOCHS:04}.safetensors");
    for name in ["last.safetensors", "best.safetensors", &kept, checkpoint::VALID_PREDICTIONS] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(read(&killed) == read(&uninterrupted), "{name} differs");
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_run_and_keeps_the_last_good_checkpoint() {
    use std::process::Command;

    let folder = TempDir::new().unwrap();
    let config = with(&rich(&folder), "--phase1-epochs 1 --phase2-epochs 1");
    let first = run(&config);
    let good = weights(&config);
    let longer = with(&config, "--phase2-epochs 3 --resume auto");
    let file = write_config(&longer, folder.path());
    // The shell's file size limit stands in for a full disk: about half of a weight file.
    let blocks = good.len() / 2 / 1024;
    let program = env!("CARGO_BIN_EXE_polyview");
    let script =
        format!("trap '' XFSZ; ulimit -f {blocks}; exec '{program}' train --config '{file}'");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.contains("cannot be written") && last.contains("make room"), "{stderr}");
    assert!(weights(&config) == good, "the last checkpoint was touched");
    // Once there is space again, the run resumes.
    let outcome = run(&longer);
    assert_eq!(outcome.history.len(), 4);
    assert_eq!(timeless(&outcome.history[..2]), timeless(&first.history));
}

#[test]
fn a_resumed_run_accepts_either_form_of_its_window() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let run = |more: &[&str]| {
        let output = train(&data, &save, &[&["--epochs=1"], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    run(&["--start-frame=2", "--end-frame=9"]);
    let said = run(&["--resume=auto", "--window=2..9"]);
    assert!(!said.contains("differs from the checkpoint's"), "{said}");
    let said = run(&["--resume=auto", "--end-frame=8"]);
    assert!(said.contains("end-frame was 9, is 8"), "{said}");
}
