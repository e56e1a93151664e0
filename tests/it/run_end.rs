//! A run ends with its last checkpoint written, whoever asks it to end and whoever has stopped
//! reading its output.

use std::process::Stdio;

use polyview::checkpoint;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{Running, text, train};

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
    // Both ends to be read from are closed before the first line.
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

#[cfg(unix)]
#[test]
fn signals_end_a_run_with_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    for signal in ["INT", "TERM", "HUP", "USR1", "USR2"] {
        let save = folder.path().join(signal);
        let forever =
            ["--epochs", "100000", "--early-stopping-patience", "0", "--checkpoint-minutes", "0"];
        let run = Running::start(train(&data, &save, &forever));
        assert!(run.steps(2));
        let sent = std::process::Command::new("kill")
            .args(["-s", signal, &run.id().to_string()])
            .output()
            .unwrap();
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        let events: Vec<_> = std::iter::from_fn(|| run.event()).collect();
        let [.., saved, interrupted] = &events[..] else { panic!("{signal}: {events:?}") };
        assert_eq!(
            (&saved["event"], &interrupted["event"]),
            (&"saved".into(), &"interrupted".into())
        );
        assert_eq!(run.exit_code(), Some(130), "{signal}");
        assert!(save.join(checkpoint::LAST).exists(), "{signal}");
    }
}
