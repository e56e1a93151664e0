//! `polyview doctor`.

mod page;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::device;
use crate::doctor::{self, Report, SelfTest};
use crate::tuning;

/// Options as typed.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Folder that a run would write to
    #[arg(long, value_name = "DIR", default_value = "checkpoints")]
    save_dir: PathBuf,
    /// Folder for decoded frames [default: SAVE_DIR/frames]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Test this device only; else all of them
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Compute nothing on the devices
    #[arg(long, conflicts_with = "device")]
    no_self_test: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Test one device in this process and print JSON: what the program calls itself with
    #[arg(long, value_name = "NAME", hide = true)]
    self_test: Option<String>,
}

/// What became of a device's test.
#[derive(Debug, Clone, Serialize)]
struct Tested {
    /// What `--device` takes.
    device: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Result(SelfTest),
    Failed(String),
}

/// The page as JSON has it.
#[derive(Debug, Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    report: &'a Report,
    self_tests: &'a [Tested],
}

/// A driver may hang; compiling shaders for the first time may take long.
const PATIENCE: Duration = Duration::from_secs(120);

impl DoctorArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        if let Some(name) = &self.self_test {
            let compute = device::open(name).map_err(Failure::runtime)?;
            print_json(&SelfTest::run(&compute).map_err(Failure::runtime)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let cache = self.cache.clone().unwrap_or_else(|| self.save_dir.join("frames"));
        let mut folders = vec![("--save-dir", self.save_dir.clone()), ("--cache", cache)];
        folders.extend(tuning::folder().map(|folder| ("--tune's memory", folder)));
        let mut report = doctor::examine(&folders);
        // Should a driver take the program down with it, what is known stands there already.
        if !self.json {
            print_text(&page::facts(&report))?;
        }
        let tests = self.test(&report, terminal);
        report.problems.extend(tests.iter().filter_map(Tested::problem));
        if self.json {
            print_json(&Page { report: &report, self_tests: &tests })?;
        } else {
            print_text(&page::findings(&report, &tests))?;
        }
        let sound = tests.iter().all(|test| test.problem().is_none());
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn test(&self, report: &Report, terminal: &Terminal) -> Vec<Tested> {
        let names: Vec<String> = match &self.device {
            Some(name) => vec![name.clone()],
            None if self.no_self_test => Vec::new(),
            None => report.devices.iter().map(|device| device.id.clone()).collect(),
        };
        let bar = terminal.counter("self-tests");
        bar.set_length(names.len() as u64);
        let test = |device: String| {
            let outcome = match in_own_process(&device) {
                Ok(result) => Outcome::Result(result),
                Err(reason) => Outcome::Failed(reason),
            };
            bar.inc(1);
            Tested { device, outcome }
        };
        let tests = names.into_iter().map(test).collect();
        bar.finish_and_clear();
        tests
    }
}

impl Tested {
    fn problem(&self) -> Option<String> {
        let Self { device, outcome } = self;
        match outcome {
            Outcome::Failed(reason) => Some(format!("self-test on {device} failed: {reason}")),
            Outcome::Result(test) if !test.sound => Some(format!(
                "{device} computes wrong numbers (convolution off by {:.1e}): update its driver, or \
                 take another --device",
                test.conv_error
            )),
            Outcome::Result(_) => None,
        }
    }
}

/// Tests a device in a process of its own, which a faulty driver may end or block.
fn in_own_process(device: &str) -> Result<SelfTest, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .args(["doctor", "--self-test", device, "--quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    // Both pipes are read while it runs: a full one would block it.
    let out = child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
    let err = child.stderr.take().map(|pipe| thread::spawn(|| read(pipe)));
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
            None => {
                // It may have ended by itself just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", PATIENCE.as_secs()));
            }
        }
    };
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (out, err) = (text(out), text(err));
    if !status.success() {
        return Err(last_line(&err).unwrap_or_else(|| how_it_ended(status)));
    }
    serde_json::from_str(&out).map_err(|error| format!("unreadable answer: {error}"))
}

/// What comes until the pipe closes or breaks.
fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What had come by then is the best there is.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.strip_prefix("error: ").unwrap_or(line).to_owned())
}

fn how_it_ended(status: ExitStatus) -> String {
    format!("the driver ended the process ({status})")
}
