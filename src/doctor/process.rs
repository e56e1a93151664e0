//! Programs that are given some time and no more.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long the rest of the output of a program that has ended may take: a child of its own may
/// hold the pipe open.
const REST: Duration = Duration::from_millis(500);

/// A program that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Its last words that tell something: libraries and panics add lines that do not.
    pub(crate) fn last_words(&self) -> Option<&str> {
        let noise = |line: &str| {
            line.is_empty() || line.starts_with("note:") || line.contains("XDG_RUNTIME_DIR")
        };
        self.stderr.lines().map(str::trim).rfind(|line| !noise(line))
    }

    /// Why it failed, in one line.
    pub(crate) fn failure(&self) -> String {
        let status = self.status;
        match self.last_words() {
            Some(words) => format!("its process ended ({status}): {words}"),
            None => format!("its process ended ({status})"),
        }
    }
}

/// Runs a program without input; `None` if it had not ended after `patience`.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run(command: &mut Command, patience: Duration) -> std::io::Result<Option<Ended>> {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn()?;
    // Both pipes are read while it runs: a full one would block it.
    let out = child.stdout.take().map(in_background);
    let err = child.stderr.take().map(in_background);
    let started = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if started.elapsed() < patience => thread::sleep(Duration::from_millis(10)),
            None => {
                // It may have ended by itself just now. One that hangs in the kernel outlives this,
                // so nobody waits for it.
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

/// What comes out of a pipe until it closes or breaks.
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
