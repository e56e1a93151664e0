//! The program as a user runs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use serde_json::Value;

use super::wait::LIMIT;

/// Returns a command that runs the program with these arguments.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polyview"));
    command.args(args);
    command
}

/// Runs the program.
pub fn polyview(args: &[&str]) -> Output {
    polyview_with(args, &[])
}

/// Runs the program with environment variables set.
pub fn polyview_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    command(args).envs(variables.iter().copied()).output().expect("the program starts")
}

/// Returns the program's output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the last line of stderr, which holds the error.
pub fn last_error(output: &Output) -> String {
    text(&output.stderr).lines().last().expect("stderr has the error").to_owned()
}

/// Options of a run that takes seconds.
const SMALL: [&str; 24] = [
    "--simple-training",
    "--augmentation-strength=aggressive",
    "--backbone-name",
    "r3d_tiny",
    "--img-height",
    "16",
    "--img-width",
    "20",
    "--frames-per-clip",
    "4",
    "--start-frame",
    "2",
    "--end-frame",
    "9",
    "--target-fps",
    "25",
    "--batch-size",
    "4",
    "--epochs",
    "2",
    "--num-workers",
    "1",
    "--device",
    "cpu",
];

/// Returns a command that runs `polyview train` with a tiny network on
/// [`small_set`](super::data::small_set): two epochs that take seconds.
pub fn train(data: &Path, save: &Path, more: &[&str]) -> Command {
    let mut command = command(&["train", "--dataset-root"]);
    command.arg(data).arg("--save-dir").arg(save).args(SMALL).args(more);
    command
}

/// Returns the peak resident memory, in bytes, of a process that has not been waited for.
#[cfg(target_os = "linux")]
pub fn peak_memory(child: &Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let status = std::fs::read_to_string(path).expect("the child has not been waited for");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kilobytes = kilobytes.expect("the child is still running").trim();
    1024 * kilobytes.parse::<u64>().expect("VmHWM is a number")
}

/// A started `polyview train --progress json`, followed event by event; killed when dropped.
pub struct Running {
    child: Child,
    events: Receiver<Value>,
}

impl Running {
    /// Starts the command with `--progress json` added. It inherits the tests' stderr.
    pub fn start(mut command: Command) -> Self {
        command.args(["--progress", "json"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let (send, events) = channel();
        // A separate thread drains the pipe and lets the reader give up on a hanging child.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The last line of a killed child may be incomplete.
                let Ok(event) = serde_json::from_str(&line) else { return };
                if send.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, events }
    }

    /// Returns the next event; `None` once the program has ended.
    pub fn event(&self) -> Option<Value> {
        match self.events.recv_timeout(LIMIT) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no event within {LIMIT:?}"),
        }
    }

    /// Waits for `count` steps of training or validation; returns false if the run ends before.
    pub fn steps(&self, count: usize) -> bool {
        let mut steps = std::iter::from_fn(|| self.event()).filter(|e| e["event"] == "step");
        steps.by_ref().take(count).count() == count
    }

    /// Returns the process's peak resident memory so far, in bytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        peak_memory(&self.child)
    }

    /// Returns the process id.
    #[cfg(unix)]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end and returns the exit code; `None` if a signal ended the process.
    #[cfg(unix)]
    pub fn exit_code(mut self) -> Option<i32> {
        self.child.wait().expect("the child is ours").code()
    }

    /// Kills the program without warning.
    pub fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail on a child that has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
