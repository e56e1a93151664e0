//! Wall time of a run, as recorded in its history and shown on its page.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use polyview::report::{EpochRecord, Event};
use polyview::train::REPORT;
use tempfile::TempDir;

use crate::common::run::{run, small_config, try_run, with};

fn sum(history: &[EpochRecord]) -> f64 {
    history.iter().map(EpochRecord::seconds).sum()
}

#[test]
fn it_covers_the_whole_run_also_if_resumed() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 3");
    let between = Duration::from_millis(1500);
    let from = Instant::now();
    let outcome = try_run(&config, &AtomicBool::new(false), |event| {
        // The time between the passes of two epochs belongs to the second one.
        if matches!(event, Event::Epoch(record) if record.epoch == 1) {
            std::thread::sleep(between);
        }
    });
    let outcome = outcome.unwrap();
    let all = from.elapsed().as_secs_f64();
    for record in &outcome.history {
        let passes = record.train.seconds + record.valid.seconds;
        let rest = if record.epoch == 2 { between.as_secs_f64() } else { 0.0 };
        assert!(record.wall_seconds.unwrap() >= passes + rest, "{record:?}");
    }
    assert!(sum(&outcome.history) <= all, "more than {all} s: {:?}", outcome.history);
    let page = std::fs::read_to_string(config.run.save_dir.join(REPORT)).unwrap();
    assert!(page.contains("<dt>Time</dt>") && !page.contains("the passes only"), "{page:.2000}");

    // The part before an interruption counts, too.
    let other = folder.path().join("other");
    let other = with(&config, &format!("--resume auto --save-dir {}", other.display()));
    let stop = AtomicBool::new(false);
    let from = Instant::now();
    let stopped = try_run(&other, &stop, |event| {
        if matches!(event, Event::Step { .. }) {
            std::thread::sleep(Duration::from_secs(2));
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(stopped.unwrap().interrupted);
    let resumed = run(&other);
    let all = from.elapsed().as_secs_f64();
    let first = &resumed.history[0];
    assert!(first.wall_seconds.unwrap() >= 2.0, "{first:?}");
    assert!(sum(&resumed.history) <= all, "more than {all} s: {:?}", resumed.history);
}

#[test]
fn histories_from_before_it_was_recorded_are_read() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
    let mut old = run(&config).history;
    let mut json = serde_json::to_value(&old).unwrap();
    assert!(json[0].as_object_mut().unwrap().remove("wall_seconds").is_some());
    let read: Vec<EpochRecord> = serde_json::from_value(json).unwrap();
    old[0].wall_seconds = None;
    assert_eq!(read, old);
    assert_eq!(sum(&read), old[0].train.seconds + old[0].valid.seconds);
}
