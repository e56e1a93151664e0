//! A run ends with its last checkpoint written, whatever makes it end and even if nobody reads its
//! output.

use std::process::Stdio;

use polyview::checkpoint;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{text, train};

#[test]
fn output_that_nobody_reads_does_not_end_a_run() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let save = folder.path().join("closed");
    let mut child = train(&data, &save, &["-vv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The read ends of both pipes are closed before the first line.
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(save.join(checkpoint::LAST).exists());
    if cfg!(target_os = "linux") {
        let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let save = folder.path().join("full");
        let mut child = train(&data, &save, &[]).stdout(full()).stderr(full()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(save.join(checkpoint::LAST).exists());
    }
}

#[test]
fn a_diverging_run_ends_and_keeps_the_last_finite_weights() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let diverging = ["--optimizer", "sgd", "--lr", "1e5", "--gradient-clip-norm", "0"];
    for (batch, message) in
        [("100", "the validation loss is NaN after epoch 1"), ("2", "in epoch 1")]
    {
        let save = folder.path().join(batch);
        let options = [&diverging[..], &["--batch-size", batch, "--epochs", "3"]].concat();
        let output = train(&data, &save, &options).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(message) && error.contains("try a lower --lr"), "{error}");
        assert!(!error.contains("--precision"), "{error}");
        assert!(!save.join(checkpoint::BEST).exists() && !save.join(checkpoint::LAST).exists());
    }
    // Weights that were saved before the run diverged are kept.
    let save = folder.path().join("later");
    assert!(train(&data, &save, &["--epochs", "1"]).output().unwrap().status.success());
    let good = std::fs::read(save.join(checkpoint::LAST)).unwrap();
    let options = [&diverging[..], &["--epochs", "2", "--resume", "auto"]].concat();
    let output = train(&data, &save, &options).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(std::fs::read(save.join(checkpoint::LAST)).unwrap() == good);
}

#[test]
fn an_earlier_run_is_not_overwritten() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let run = |options: &[&str]| train(&data, &save, options).output().unwrap();
    let files = |folder: &std::path::Path| {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert!(run(&["--epochs", "1"]).status.success());
    let (first, names) = (std::fs::read(save.join(checkpoint::LAST)).unwrap(), files(&save));
    let refused = run(&["--seed", "7"]);
    assert_eq!(refused.status.code(), Some(2));
    let error = text(&refused.stderr);
    for way in ["--save-dir", "another run", "--resume auto", "--overwrite"] {
        assert!(error.contains(way), "{error}");
    }
    assert_eq!(files(&save), names);
    assert!(std::fs::read(save.join(checkpoint::LAST)).unwrap() == first);
    // A test run writes nothing, so it is allowed.
    assert!(run(&["--test-run"]).status.success());

    // Other files in the folder do not belong to the run.
    std::fs::create_dir(save.join("clips")).unwrap();
    std::fs::write(save.join("notes.txt"), "mine").unwrap();
    // Weights that would be moved cannot be read afterwards.
    let best = save.join(checkpoint::BEST);
    let moved = run(&["--overwrite", "--pretrained", best.to_str().unwrap()]);
    assert_eq!(moved.status.code(), Some(2));
    assert!(text(&moved.stderr).contains("copy it to another folder"), "{}", text(&moved.stderr));
    assert!(std::fs::read(save.join(checkpoint::LAST)).unwrap() == first);

    let again = run(&["--seed", "7", "--overwrite"]);
    assert!(again.status.success() && text(&again.stderr).contains("previous-001"));
    let previous = save.join("previous-001");
    assert!(std::fs::read(previous.join(checkpoint::LAST)).unwrap() == first);
    assert!(std::fs::read(save.join(checkpoint::LAST)).unwrap() != first);
    let moved: Vec<_> = names.into_iter().filter(|n| n != "frames" && n != ".lock").collect();
    assert_eq!(files(&previous), moved);
    assert!(save.join("clips").is_dir() && save.join("notes.txt").is_file());
    assert!(run(&["--overwrite"]).status.success() && save.join("previous-002").exists());
    assert!(run(&["--epochs", "3", "--resume", "auto"]).status.success());

    // The best weights of a run, but nothing to resume from.
    let best = std::fs::read(save.join(checkpoint::BEST)).unwrap();
    std::fs::remove_file(save.join(checkpoint::LAST)).unwrap();
    let afresh = run(&["--epochs", "1", "--seed", "9", "--resume", "auto"]);
    assert!(afresh.status.success() && text(&afresh.stderr).contains("previous-003"));
    assert!(std::fs::read(save.join("previous-003").join(checkpoint::BEST)).unwrap() == best);
}

#[test]
fn unfinished_files_of_a_killed_run_are_removed() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    std::fs::create_dir(&save).unwrap();
    let left = [".last.safetensors.aB3dE6", ".epoch-0002.state.next.0123456789abcdef"];
    let others = [".keep", ".notes.txt.abcdef", "last.safetensors.backup"];
    for name in left.iter().chain(&others) {
        std::fs::write(save.join(name), b"x").unwrap();
    }
    assert!(train(&data, &save, &["--epochs", "1"]).output().unwrap().status.success());
    assert!(left.iter().all(|name| !save.join(name).exists()));
    assert!(others.iter().all(|name| save.join(name).exists()));
}

#[cfg(unix)]
#[test]
fn a_folder_removed_during_the_run_is_created_again() {
    use crate::common::run::{small_config, try_run, with};

    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 3 --cache off");
    let save = config.run.save_dir.clone();
    let mut epochs = 0;
    let outcome = try_run(&config, &std::sync::atomic::AtomicBool::new(false), |event| {
        if let polyview::report::Event::Epoch(_) = event {
            epochs += 1;
            if epochs == 1 {
                std::fs::remove_dir_all(&save).unwrap();
            }
        }
    });
    assert_eq!(outcome.unwrap().history.len(), 3);
    for file in [checkpoint::LAST, checkpoint::CONFIG, checkpoint::HISTORY, ".lock"] {
        assert!(save.join(file).exists(), "{file}");
    }
    let resumed = with(&config, "--resume auto --epochs 4");
    assert_eq!(crate::common::run::run(&resumed).history.len(), 4);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_a_run_with_the_previous_checkpoint() {
    use crate::common::mount::Mount;

    let folder = TempDir::new().unwrap();
    let (data, disk) = (folder.path().join("data"), folder.path().join("disk"));
    small_set(&data);
    let Some(_mount) = Mount::new(&disk, "size=12m") else { return };
    let save = disk.join("run");
    let more = ["--epochs", "100", "--keep", "100", "--no-cache"];
    let output = train(&data, &save, &more).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("No space left") && error.contains("make room on the disk"), "{error}");
    for entry in std::fs::read_dir(&save).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with("epoch-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let resumed = train(&data, &save, &["--resume", "auto", "--no-cache"]).output().unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
}
