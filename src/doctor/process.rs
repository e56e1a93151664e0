//! Running programs with a time limit.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for reading the rest of the output after a program has ended: a child process of it
/// may hold the pipe open.
const REST: Duration = Duration::from_millis(500);

/// The result of a program that ended within its time limit.
#[derive(Debug)]
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Returns the last informative line on stderr, ignoring those that libraries and panics add.
    pub(crate) fn last_line(&self) -> Option<&str> {
        let noise = |line: &str| {
            line.is_empty() || line.starts_with("note:") || line.contains("XDG_RUNTIME_DIR")
        };
        self.stderr.lines().map(str::trim).rfind(|line| !noise(line))
    }

    /// Returns why the program failed, in one line.
    pub(crate) fn failure(&self) -> String {
        let status = self.status;
        match self.last_line() {
            Some(line) => format!("its process ended ({status}): {line}"),
            None => format!("its process ended ({status})"),
        }
    }
}

/// Runs a program without input; `None` if it has not ended after `timeout`.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run(command: &mut Command, timeout: Duration) -> std::io::Result<Option<Ended>> {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn()?;
    // Both pipes are read while it runs: a full pipe would block it.
    let out = child.stdout.take().map(in_background);
    let err = child.stderr.take().map(in_background);
    let started = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if started.elapsed() < timeout => thread::sleep(Duration::from_millis(10)),
            None => {
                // It may have ended just now. It is not waited for, as a process that hangs in the
                // kernel cannot be killed.
                let _ = child.kill();
                return Ok(None);
            }
        }
    };
    let text = |output: Option<Receiver<Vec<u8>>>| {
        let until = Instant::now() + REST;
        let mut bytes = Vec::new();
        let next = |from: &Receiver<Vec<u8>>| {
            from.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
        };
        while let Some(more) = output.as_ref().and_then(next) {
            bytes.extend(more);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Some(Ended { status, stdout: text(out), stderr: text(err) }))
}

/// Reads a pipe in a thread until it closes or breaks.
fn in_background(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            if sender.send(bytes[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
