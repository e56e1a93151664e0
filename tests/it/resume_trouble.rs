//! Resuming in the presence of obstacles: clips that cannot be read, files that cannot be written,
//! another optimizer, checkpoints of a later epoch.

use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use polyview::checkpoint;
use polyview::report::csv::metrics_csv;
use polyview::report::{Event, PassKind};
use polyview::train::{METRICS, load_pair};
use tempfile::TempDir;

use crate::common::data::clip;
use crate::common::resume::{resumed_equals_uninterrupted, timeless, weights};
use crate::common::run::{run, saving_to, small_config, try_run, with, with_args};

#[test]
fn batches_without_a_readable_clip_are_not_trained_again() {
    let damaged = |folder: &TempDir| {
        let config = with(
            &small_config(folder),
            "--no-gradual-finetuning --epochs 2 --batch-size 1 --disable-class-balancing",
        );
        for (action, view) in [(2, 0), (2, 1), (7, 0), (7, 1)] {
            std::fs::write(clip(&folder.path().join("data"), action, view), b"no clip").unwrap();
        }
        config
    };
    // An epoch has 10 steps, and 2 batches without one: the last stops are at its end.
    resumed_equals_uninterrupted("cpu", damaged, &[3, 6, 9, 10]);
}

#[test]
fn an_epoch_whose_best_weights_cannot_be_written_is_not_trained_again() {
    let folder = TempDir::new().unwrap();
    let whole = with(&small_config(&folder), "--no-gradual-finetuning --epochs 2");
    let expected = run(&whole);
    let cut = saving_to(&whole, &folder.path().join("cut"));
    // A folder with the name of a file that is written at the end of the first epoch.
    let obstacle = cut.run.save_dir.join("best.state.next");
    let error = try_run(&cut, &AtomicBool::new(false), |event| {
        if let Event::PassStarted { epoch: 1, phase: PassKind::Validate, .. } = event {
            std::fs::create_dir(&obstacle).unwrap();
        }
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("best.state.next"), "{error}");
    std::fs::remove_dir(&obstacle).unwrap();
    let (mut steps, mut epoch) = (0, 0);
    let resumed =
        try_run(&with(&cut, "--resume auto"), &AtomicBool::new(false), |event| match event {
            Event::PassStarted { epoch: begun, phase: PassKind::Train, .. } => epoch = *begun,
            Event::PassStarted { .. } => epoch = 0,
            Event::Step { .. } if epoch == 1 => steps += 1,
            _ => {}
        });
    let resumed = resumed.unwrap();
    assert_eq!(steps, 0);
    assert_eq!(timeless(&resumed.history), timeless(&expected.history));
    assert!(weights(&cut) == weights(&whole));
    let best = |config: &polyview::config::Config| {
        std::fs::read(config.run.save_dir.join(checkpoint::BEST)).unwrap()
    };
    assert!(best(&cut) == best(&whole));
}

#[test]
fn going_back_keeps_what_it_writes() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 4 --keep 4");
    run(&config);
    let first = config.run.save_dir.join("epoch-0001.safetensors");
    let back = with_args(&config, &["--keep", "1", "--resume", first.to_str().unwrap()]);
    let mut saved = 0;
    let outcome = try_run(&back, &AtomicBool::new(false), |event| {
        if let Event::Saved { path } = event {
            assert!(path.exists(), "{}", path.display());
            saved += 1;
        }
    });
    assert_eq!(outcome.unwrap().history.len(), 4);
    assert!(saved >= 6, "{saved}");
    let left = |epoch: usize| config.run.save_dir.join(format!("epoch-000{epoch}.state")).exists();
    assert_eq!([1, 2, 3, 4].map(left), [false, false, false, true]);
}

#[test]
fn moments_of_another_optimizer_are_not_taken_over() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
    let steps = |options: &str, other: &str| {
        let before =
            saving_to(&with(&config, options), &folder.path().join(format!("{options}{other}")));
        run(&before);
        let after = with(&before, &format!("--epochs 2 --resume auto {other}"));
        run(&after);
        let last = load_pair(&after.run.save_dir.join(checkpoint::LAST), &Device::flex()).unwrap();
        last.moments.values().map(|moments| moments.steps).max().unwrap()
    };
    let once = steps("--optimizer sgd", "--optimizer adamw");
    assert_eq!(steps("--optimizer adamw", "--optimizer sgd"), once);
    // Adam's moments are valid for AdamW.
    assert_eq!(steps("--optimizer adam", "--optimizer adamw"), 2 * once);
    assert_eq!(steps("--optimizer sgd", "--lr 1e-3"), 2 * once);
}

#[test]
fn a_finished_run_that_is_resumed_keeps_the_examples_of_its_report() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
    run(&config);
    let page = || std::fs::read_to_string(config.run.save_dir.join("report.html")).unwrap();
    let section = |page: &str| {
        let start = page.find("<section id=\"examples\">").expect("there are examples");
        let end = start + page[start..].find("</section>").unwrap();
        page[start..end].to_owned()
    };
    let before = section(&page());
    let again = run(&with(&config, "--resume auto"));
    assert!(again.was_finished);
    assert_eq!(section(&page()), before);
    // And again, from the page that was written meanwhile.
    run(&with(&config, "--resume auto"));
    assert_eq!(section(&page()), before);
}

#[test]
fn a_finished_run_that_is_resumed_completes_its_table_of_metrics() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 2");
    run(&config);
    let table = config.run.save_dir.join(METRICS);
    let whole = std::fs::read_to_string(&table).unwrap();
    let resume = || {
        let outcome = run(&with(&config, "--resume auto"));
        assert!(outcome.was_finished);
        let written = std::fs::read_to_string(&table).unwrap();
        assert_eq!(written, metrics_csv(&outcome.history).unwrap());
        assert_eq!(written.lines().count(), whole.lines().count());
    };
    // As if the run had been killed between its last checkpoint and the table.
    let last = whole.trim_end().rfind('\n').unwrap() + 1;
    std::fs::write(&table, &whole[..last]).unwrap();
    resume();
    std::fs::remove_file(&table).unwrap();
    resume();
}
