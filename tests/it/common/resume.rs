//! Runs that are interrupted and resumed.

use std::sync::atomic::{AtomicBool, Ordering};

use polyview::checkpoint;
use polyview::config::Config;
use polyview::report::{EpochRecord, Event, PassKind};
use tempfile::TempDir;

use super::run::{run, saving_to, try_run, with};

/// Returns the history without wall-clock times, which are never the same twice.
pub fn timeless(history: &[EpochRecord]) -> Vec<EpochRecord> {
    let mut history = history.to_vec();
    for record in &mut history {
        record.wall_seconds = None;
        for pass in [&mut record.train, &mut record.valid] {
            (pass.seconds, pass.data_wait) = (0.0, 0.0);
        }
    }
    history
}

/// Reads the file of the best epoch's predictions.
pub fn predictions(config: &Config) -> String {
    std::fs::read_to_string(config.run.save_dir.join(checkpoint::VALID_PREDICTIONS)).unwrap()
}

/// Reads the file of the last weights.
pub fn weights(config: &Config) -> Vec<u8> {
    std::fs::read(config.run.save_dir.join(checkpoint::LAST)).unwrap()
}

/// Runs until `steps` training steps are done, then requests a stop. Returns whether the run was
/// interrupted.
pub fn run_some(config: &Config, steps: usize) -> bool {
    let stop = AtomicBool::new(false);
    let (mut done, mut training) = (0, true);
    let outcome = try_run(config, &stop, |event| match event {
        Event::PassStarted { phase, .. } => {
            training = *phase == PassKind::Train;
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

/// Asserts that a run that is interrupted after each number of `steps` and resumed ends as if it had
/// not been interrupted.
pub fn resumed_equals_uninterrupted(
    device: &str,
    config: impl Fn(&TempDir) -> Config,
    steps: &[usize],
) {
    let folder = TempDir::new().unwrap();
    let whole = with(&config(&folder), &format!("--device {device}"));
    let uninterrupted = run(&whole);
    let expected = (timeless(&uninterrupted.history), weights(&whole));
    assert_eq!(expected.0.len(), whole.total_epochs());
    for (number, &steps) in steps.iter().enumerate() {
        let cut = saving_to(&whole, &folder.path().join(format!("cut{steps}")));
        // The number of workers must not matter.
        let cut = with(&cut, &format!("--resume auto --num-workers {}", number % 3));
        // Interrupted twice: a resumed run can be resumed.
        assert!(run_some(&cut, steps), "the run ended before step {steps}");
        let again = with(&cut, "--num-workers 1");
        run_some(&again, 2);
        let outcome = run(&cut);
        assert_eq!(timeless(&outcome.history), expected.0, "{device}, cut after {steps} steps");
        assert!(weights(&cut) == expected.1, "{device}, cut after {steps}: the weights differ");
        assert_eq!(predictions(&cut), predictions(&whole), "{device}, cut after {steps} steps");
    }
}
