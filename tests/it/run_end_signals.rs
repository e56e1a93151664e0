//! Requests to end a run: each one leaves a checkpoint, and only a second Ctrl-C does not wait for
//! it.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use polyview::checkpoint;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{Running, text, train};
use crate::common::skip::skip_unless_required;

/// Options of a run that does not end on its own.
const FOREVER: [&str; 6] =
    ["--epochs", "100000", "--early-stopping-patience", "0", "--checkpoint-minutes", "0"];

fn send(signals: &[&str], run: &Running) {
    for signal in signals {
        let id = run.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).output().unwrap();
        assert!(sent.status.success(), "{}", text(&sent.stderr));
    }
}

/// Returns a command that runs the program through a shell, which first executes `first`, for
/// example to ignore SIGHUP as `nohup` does.
fn through_shell(data: &Path, save: &Path, more: &[&str], first: &str) -> Command {
    let run = train(data, save, more);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{first} exec \"$0\" \"$@\"")).arg(run.get_program());
    shell.args(run.get_args());
    shell
}

#[test]
fn signals_end_a_run_with_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let kinds: [&[&str]; 9] = [
        &["INT"],
        &["TERM"],
        &["HUP"],
        &["USR1"],
        &["USR2"],
        // A scheduler's warning and its request; the kernel's and the shell's signal for a closed
        // terminal; a wrapper that forwards a signal that the terminal has already sent.
        &["USR1", "TERM"],
        &["HUP", "HUP"],
        &["TERM", "TERM"],
        &["TERM", "INT"],
    ];
    for signals in kinds {
        let save = folder.path().join(signals.join("-"));
        let run = Running::start(train(&data, &save, &FOREVER));
        assert!(run.steps(2));
        send(signals, &run);
        let events: Vec<_> = std::iter::from_fn(|| run.event()).collect();
        let [.., saved, interrupted, last] = &events[..] else { panic!("{signals:?}: {events:?}") };
        assert_eq!(
            [&saved["event"], &interrupted["event"], &last["event"], &last["reason"]],
            ["saved", "interrupted", "finished", "interrupted"]
        );
        assert_eq!(run.exit_code(), Some(130), "{signals:?}");
        assert!(save.join(checkpoint::LAST).exists(), "{signals:?}");
    }
}

#[test]
fn a_second_interrupt_ends_a_run_at_once() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    assert!(train(&data, &save, &["--epochs", "1"]).output().unwrap().status.success());
    let before = std::fs::read(save.join(checkpoint::LAST)).unwrap();
    // Steps that take seconds on any machine.
    let slow =
        "--resume auto --img-height 224 --img-width 398 --frames-per-clip 64 --batch-size 12";
    let slow: Vec<&str> = slow.split_whitespace().chain(FOREVER).collect();
    let run = Running::start(train(&data, &save, &slow));
    let training = |event: &Value| event["event"] == "pass_started";
    assert!(std::iter::from_fn(|| run.event()).any(|event| training(&event)));
    send(&["INT"], &run);
    // Two interrupts in quick succession count as one.
    std::thread::sleep(Duration::from_millis(300));
    send(&["INT"], &run);
    let rest: Vec<_> = std::iter::from_fn(|| run.event()).collect();
    assert_eq!(rest, Vec::<Value>::new());
    assert_eq!(run.exit_code(), Some(130));
    assert!(std::fs::read(save.join(checkpoint::LAST)).unwrap() == before);
    let resumed = train(&data, &save, &["--resume", "auto"]).output().unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
}

#[test]
fn nohup_is_honoured() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let run = Running::start(through_shell(&data, &save, &["--epochs", "3"], "trap '' HUP;"));
    assert!(run.steps(1));
    send(&["HUP"], &run);
    let epochs = std::iter::from_fn(|| run.event()).filter(|event| event["event"] == "epoch");
    assert_eq!(epochs.count(), 3);
    assert_eq!(run.exit_code(), Some(0));
}

/// Runs a program on a terminal and prints its exit status and its output; with `close`, the terminal
/// is closed as soon as there is a checkpoint.
const TERMINAL: &str = r#"
import os, pty, sys
close, program = sys.argv[1], sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(program[0], program)
shown = b""
while True:
    try:
        read = os.read(terminal, 65536)
    except OSError:
        break
    shown += read
    if not read or (close and os.path.exists(close)):
        break
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.stdout.buffer.write(shown)
"#;

/// Returns the exit status and the output that [`TERMINAL`] prints; `None` without Python.
fn on_terminal(run: &Command, close: &Path, kind: &str) -> Option<(String, String)> {
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL]).arg(close).arg(run.get_program()).args(run.get_args());
    match python.env("TERM", kind).output() {
        Ok(output) => {
            let shown = text(&output.stdout);
            let split =
                shown.split_once('\n').unwrap_or_else(|| panic!("{}", text(&output.stderr)));
            Some((split.0.to_owned(), split.1.to_owned()))
        }
        Err(error) => {
            let why = format_args!("no python3 to open a terminal: {error}");
            skip_unless_required("POLYVIEW_REQUIRE_PYTHON", why);
            None
        }
    }
}

#[test]
fn a_closed_terminal_ends_a_run_with_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let last = save.join(checkpoint::LAST);
    let run = train(&data, &save, &FOREVER);
    let Some((status, _)) = on_terminal(&run, &last, "xterm") else { return };
    assert_eq!(status, "130");
    let resumed = train(&data, &save, &["--epochs", "1", "--resume", "auto"]).output().unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
}

#[test]
fn a_terminal_without_a_cursor_shows_lines() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let run = train(&data, &save, &["--epochs", "1"]);
    for kind in ["dumb", "xterm"] {
        let Some((status, shown)) = on_terminal(&run, Path::new(""), kind) else { return };
        let _ = std::fs::remove_dir_all(&save);
        assert_eq!(status, "0", "{shown}");
        assert!(shown.contains("epoch 1/1") && shown.contains("done after 1 epoch"), "{shown}");
        assert!(kind != "dumb" || !shown.contains('\u{1b}'), "{shown:?}");
    }
}
