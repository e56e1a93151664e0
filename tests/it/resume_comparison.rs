//! A comparison with and without freezing that is interrupted and resumed.

use std::sync::atomic::{AtomicBool, Ordering};

use polyview::config::Config;
use polyview::report::{Event, PassKind};
use polyview::train::{self, Comparison};
use tempfile::TempDir;

use crate::common::resume::{timeless, weights};
use crate::common::run::{saving_to, small_config, with};

/// Compares until `steps` training steps are done in all, then requests a stop.
fn compare(config: &Config, steps: usize) -> Comparison {
    let stop = AtomicBool::new(false);
    let (mut done, mut training) = (0, true);
    let mut observer = |event: &Event| match event {
        Event::PassStarted { phase, .. } => training = *phase == PassKind::Train,
        Event::Step { .. } if training => {
            done += 1;
            stop.store(done >= steps, Ordering::Relaxed);
        }
        _ => {}
    };
    train::compare_freezing(config, None, &stop, &mut observer).unwrap()
}

/// The configuration of one of the two runs, as far as its folder goes.
fn part(config: &Config, name: &str) -> Config {
    saving_to(config, &config.run.save_dir.join(name))
}

#[test]
fn both_runs_of_a_comparison_are_resumed() {
    let folder = TempDir::new().unwrap();
    let whole = with(
        &small_config(&folder),
        "--phase1-epochs 1 --phase2-epochs 1 --early-stopping-patience 0 --batch-size 5",
    );
    let expected = compare(&whole, usize::MAX);
    let cut = with(&saving_to(&whole, &folder.path().join("cut")), "--resume auto");
    let first = compare(&cut, 2);
    assert!(first.frozen.interrupted && first.unfrozen.interrupted);
    assert!(!cut.run.save_dir.join("unfrozen").exists());
    // Ends the first run and begins the second.
    let steps = |comparison: &Comparison| {
        comparison
            .frozen
            .history
            .iter()
            .map(|record| record.train.actions.div_ceil(5))
            .sum::<usize>()
    };
    let second = compare(&cut, steps(&expected));
    assert!(!second.frozen.interrupted && second.unfrozen.interrupted);
    let finished = weights(&part(&cut, "frozen"));
    let third = compare(&cut, usize::MAX);
    assert!(third.frozen.was_finished && !third.unfrozen.was_finished);
    assert!(!third.unfrozen.interrupted);
    assert!(weights(&part(&cut, "frozen")) == finished);
    for (run, name, expected) in [
        (&third.frozen, "frozen", &expected.frozen),
        (&third.unfrozen, "unfrozen", &expected.unfrozen),
    ] {
        assert_eq!(timeless(&run.history), timeless(&expected.history), "{name}");
        assert!(weights(&part(&cut, name)) == weights(&part(&whole, name)), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_comparison_says_how_to_continue() {
    use std::process::{Command, Stdio};

    use crate::common::data::small_set;
    use crate::common::program::{text, train};
    use crate::common::wait::until;

    let folder = TempDir::new().unwrap();
    let [data, save] = ["data", "run"].map(|name| folder.path().join(name));
    small_set(&data);
    let args = "--compare-freezing --gradual-finetuning --phase1-epochs 1 --phase2-epochs 9 \
                --early-stopping-patience 0 --resume auto";
    let start = || train(&data, &save, &args.split_whitespace().collect::<Vec<_>>());
    let mut first = start();
    let child = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the first epoch", || save.join("frozen/history.json").exists());
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let news = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{news}");
    assert!(news.contains("to continue, run the same command with --resume auto"), "{news}");
    assert!(!save.join("unfrozen").exists());
    let output = start().output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("resuming after epoch"), "{}", text(&output.stderr));
    assert!(save.join("unfrozen/best.safetensors").exists());
}
