//! A run that was stopped, killed or starved goes on as if nothing had happened.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use polyview::checkpoint;
use polyview::config::{Auto, Config, FreezingKind, SchedulerKind};
use polyview::report::{EpochRecord, Event};
use polyview::train::{self, load_pair};
use tempfile::TempDir;

use crate::freezing::{run, small_config};
use crate::program::{polyview, text};

/// A run with everything that could be forgotten: phases, momentum schedule, a rising sampler,
/// augmentation, dropout, an auxiliary loss.
fn rich(folder: &TempDir) -> Config {
    Config {
        phase1_epochs: 2,
        phase2_epochs: 2,
        backbone_lr: 1e-3,
        unfreeze_blocks: 1,
        scheduler: SchedulerKind::OneCycle,
        progressive_class_balancing: true,
        progressive_epochs: 3,
        augmentation_strength: polyview::augment::Strength::Aggressive,
        multi_scale: true,
        auxiliary_task_weight: 0.5,
        early_stopping_patience: Auto::Number(0),
        batch_size: 5,
        ..small_config(folder)
    }
}

/// The history without wall times, which are never the same twice.
fn timeless(history: &[EpochRecord]) -> Vec<EpochRecord> {
    let mut history = history.to_vec();
    for record in &mut history {
        for pass in [&mut record.train, &mut record.valid] {
            (pass.seconds, pass.data_wait) = (0.0, 0.0);
        }
    }
    history
}

fn weights(config: &Config) -> Vec<u8> {
    std::fs::read(config.save_dir.join(checkpoint::LAST)).unwrap()
}

/// Runs until `steps` training steps are done, then raises the stop.
fn run_some(config: &Config, steps: usize) -> bool {
    let stop = AtomicBool::new(false);
    let (mut done, mut training) = (0, true);
    let outcome = train::run(config, &stop, &mut |event: &Event| match event {
        Event::PassStarted { phase, .. } => {
            training = *phase == polyview::report::PassKind::Train;
        }
        Event::Step { .. } if training => {
            done += 1;
            if done == steps {
                stop.store(true, Ordering::Relaxed);
            }
        }
        _ => {}
    });
    outcome.unwrap().interrupted
}

fn resumed_equals_undisturbed(device: &str, config: impl Fn(&TempDir) -> Config, steps: &[usize]) {
    let folder = TempDir::new().unwrap();
    let whole = Config { device: device.to_owned(), ..config(&folder) };
    let undisturbed = run(&whole);
    let expected = (timeless(&undisturbed.history), weights(&whole));
    assert_eq!(expected.0.len(), whole.total_epochs());
    for (number, &steps) in steps.iter().enumerate() {
        let cut = Config {
            save_dir: folder.path().join(format!("cut{steps}")),
            // Another number of workers must not matter.
            num_workers: number % 3,
            resume: Some("auto".to_owned()),
            ..whole.clone()
        };
        // Twice cut: a resumed run can be resumed.
        assert!(run_some(&cut, steps), "the run ended before step {steps}");
        let again = Config { num_workers: 1, ..cut.clone() };
        run_some(&again, 2);
        let outcome = run(&cut);
        assert_eq!(timeless(&outcome.history), expected.0, "{device}, cut after {steps} steps");
        assert!(weights(&cut) == expected.1, "{device}, cut after {steps}: other weights");
    }
}

#[test]
fn a_resumed_run_is_the_undisturbed_run_on_the_cpu() {
    // 3 to 4 steps an epoch: in the middle of the first one, at a border, in the second phase.
    resumed_equals_undisturbed("cpu", rich, &[1, 3, 8]);
}

#[test]
fn a_resumed_run_is_the_undisturbed_run_in_micro_batches() {
    let pieces = |folder: &TempDir| Config {
        micro_batch: Auto::Number(2),
        gradient_checkpointing: true,
        phase1_epochs: 1,
        phase2_epochs: 1,
        ..rich(folder)
    };
    resumed_equals_undisturbed("cpu", pieces, &[2, 5]);
}

#[test]
fn a_resumed_run_is_the_undisturbed_run_on_an_adapter() {
    if crate::adapter::device().is_none() {
        return;
    }
    let short = |folder: &TempDir| Config { phase1_epochs: 1, phase2_epochs: 1, ..rich(folder) };
    let device = if polyview::device::open("gpu").is_ok() { "gpu" } else { "wgpu:cpu" };
    resumed_equals_undisturbed(device, short, &[2]);
}

#[test]
fn strategies_and_early_stopping_survive_a_resume() {
    let stalls = |folder: &TempDir| Config {
        gradual_finetuning: false,
        epochs: 12,
        freezing_strategy: FreezingKind::GradientGuided,
        adaptive_patience: 1,
        adaptive_min_improvement: 10.0,
        scheduler: SchedulerKind::ReduceOnPlateau,
        plateau_patience: 0,
        optimizer: polyview::config::OptimizerKind::Sgd,
        lr: 1e-2,
        ..small_config(folder)
    };
    let folder = TempDir::new().unwrap();
    let whole = Config { early_stopping_patience: Auto::Number(4), ..stalls(&folder) };
    let undisturbed = run(&whole);
    let epochs = undisturbed.history.len();
    let cut = Config {
        save_dir: folder.path().join("cut"),
        resume: Some("auto".to_owned()),
        ..whole.clone()
    };
    assert!(run_some(&cut, 2 * (epochs - 2) + 1));
    let outcome = run(&cut);
    assert_eq!(timeless(&outcome.history), timeless(&undisturbed.history));
    assert!(weights(&cut) == weights(&whole));
    // A finished run is not trained further.
    let again = run(&cut);
    assert_eq!(again.history.len(), epochs);
}

#[test]
fn a_resume_says_what_differs() {
    let folder = TempDir::new().unwrap();
    let config = Config { test_run: false, ..rich(&folder) };
    let short = Config { phase1_epochs: 1, phase2_epochs: 1, ..config.clone() };
    run(&short);
    let last = short.save_dir.join(checkpoint::LAST);
    let resume = |change: Config| {
        let quiet = &mut |_: &Event| {};
        let resumed = Config {
            save_dir: folder.path().join("other"),
            resume: Some(last.to_str().unwrap().to_owned()),
            ..change
        };
        train::run(&resumed, &AtomicBool::new(false), quiet)
    };
    let refused = |change: Config, words: &[&str]| {
        let error = resume(change).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error}");
        }
    };
    let mc3 = polyview::model::BackboneKind::Mc3_18;
    refused(Config { backbone_name: mc3, ..short.clone() }, &["r3d_tiny", "mc3_18", "--resume"]);
    refused(Config { attention_aggregation: false, ..short.clone() }, &["attention", "mean"]);
    refused(Config { auxiliary_task_weight: 0.0, ..short.clone() }, &["network"]);
    // More epochs, from a file of another folder, with a score to beat.
    let longer = Config { phase2_epochs: 2, resume_best_acc: Some(1.0), ..short.clone() };
    let outcome = resume(longer).unwrap();
    assert_eq!(outcome.history.len(), 3);
    assert!(!outcome.history[2].best);
    // Either file of the pair will do; a state beside other weights will not.
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
    let config = Config { keep: 2, ..rich(&folder) };
    run(&config);
    let mut names: Vec<String> = std::fs::read_dir(&config.save_dir)
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
    let third = config.save_dir.join("epoch-0003.safetensors");
    let resumed = Config {
        save_dir: folder.path().join("again"),
        resume: Some(third.to_str().unwrap().to_owned()),
        ..config.clone()
    };
    run(&resumed);
    assert!(weights(&resumed) == weights(&config));
}

#[test]
fn a_folder_in_use_is_refused_and_a_stale_lock_is_taken_over() {
    let folder = TempDir::new().unwrap();
    let config = Config { phase1_epochs: 1, phase2_epochs: 1, ..rich(&folder) };
    std::fs::create_dir_all(&config.save_dir).unwrap();
    let lock = checkpoint::FolderLock::take(&config.save_dir).unwrap();
    let mut quiet = |_: &Event| {};
    let error = train::run(&config, &AtomicBool::new(false), &mut quiet).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(error.contains("run: another run") && error.contains("writing there"), "{error}");
    drop(lock);
    // What a killed process leaves: the file, but nobody who holds it.
    std::fs::write(config.save_dir.join(".lock"), "999999\n").unwrap();
    run(&config);
}

/// A configuration file for the program.
fn written(config: &Config, folder: &Path) -> String {
    let path = folder.join("config.toml");
    std::fs::write(&path, toml::to_string(config).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn twenty_five_kills_change_nothing() {
    use rand::{RngExt, SeedableRng};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    const KILLS: usize = 25;
    let folder = TempDir::new().unwrap();
    let config = Config {
        phase1_epochs: 20,
        phase2_epochs: 40,
        // A checkpoint after every step, so that many kills fall into one.
        checkpoint_minutes: 1e-6,
        keep: 1,
        ..rich(&folder)
    };
    let file = written(&config, folder.path());
    let start = Instant::now();
    let undisturbed = folder.path().join("undisturbed");
    let output =
        polyview(&["train", "-q", "--config", &file, "--save-dir", undisturbed.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let whole = start.elapsed();

    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let save = folder.path().join("killed");
    let args = [
        "train",
        "-q",
        "--config",
        &file,
        "--save-dir",
        save.to_str().unwrap(),
        "--resume",
        "auto",
    ];
    let start_run = || {
        Command::new(env!("CARGO_BIN_EXE_polyview"))
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (mut kills, mut inside, mut early) = (0, 0, 0);
    let share = whole.as_secs_f64() / KILLS as f64;
    while kills < KILLS {
        let mut child = start_run();
        let wait = Duration::from_secs_f64(rng.random_range(0.02..0.8) * share + 0.05);
        let until = Instant::now() + wait;
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_some() {
            // It came to its end before its time: the rest of the kills have nothing to kill.
            early += 1;
            assert!(early < 10, "the run ends too soon: {kills} kills");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let cut = |name: &str| save.join(name).exists();
        if ["last.state.next", "best.state.next"].into_iter().any(cut) {
            inside += 1;
        }
    }
    let output = start_run().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    println!(
        "{kills} kills, {inside} seen inside the writing of a checkpoint; {whole:?} undisturbed"
    );
    assert_eq!(kills, KILLS, "the run was over too soon");
    let history = |folder: &Path| -> Vec<EpochRecord> {
        let text = std::fs::read_to_string(folder.join("history.json")).unwrap();
        timeless(&serde_json::from_str::<Vec<EpochRecord>>(&text).unwrap())
    };
    assert_eq!(history(&save), history(&undisturbed));
    for name in ["last.safetensors", "best.safetensors", "epoch-0060.safetensors"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(read(&save) == read(&undisturbed), "{name} differs");
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_run_and_spares_the_last_good_checkpoint() {
    use std::process::Command;

    let folder = TempDir::new().unwrap();
    let config = Config { phase1_epochs: 1, phase2_epochs: 1, ..rich(&folder) };
    let first = run(&config);
    let good = weights(&config);
    let longer = Config { phase2_epochs: 3, resume: Some("auto".to_owned()), ..config.clone() };
    let file = written(&longer, folder.path());
    // The shell's limit on a file's size stands for a full disk: about half of a weight file.
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
    // With room again, it goes on.
    let outcome = run(&longer);
    assert_eq!(outcome.history.len(), 4);
    assert_eq!(timeless(&outcome.history[..2]), timeless(&first.history));
}
