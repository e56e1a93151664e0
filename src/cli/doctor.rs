//! `polyview doctor`.

mod page;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::advice::message;
use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::device;
use crate::doctor::{Folder, Report, SelfTest, process};
use crate::tuning;

/// Options as typed.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Folder that a run would write to
    #[arg(long, value_name = "DIR", default_value = "checkpoints")]
    save_dir: PathBuf,
    /// Folder for decoded frames, where it is not in the other
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
}

/// What became of a device's test.
#[derive(Debug, Clone, Serialize)]
struct Tested {
    /// What `--device` takes.
    device: String,
    #[serde(flatten)]
    outcome: Outcome<SelfTest>,
}

/// What a process of its own found out, and how it tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome<T> {
    Result(T),
    Failed(String),
}

/// The page as JSON has it.
#[derive(Debug, Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    report: &'a Report,
    self_tests: &'a [Tested],
}

/// Tells the program that it is a part of another's doctor, and which: `devices`, or a device.
const PART: &str = "POLYVIEW_DOCTOR_PART";
/// The part that lists the devices; no device has this name.
const DEVICES: &str = "devices";

/// A driver may hang; compiling shaders for the first time may take long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that checkpoints and decoded frames need at least.
const RUN: u64 = 2_000_000_000;

impl DoctorArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        if let Ok(part) = std::env::var(PART) {
            return answer(&part);
        }
        let mut folders = vec![Folder::look("--save-dir", &self.save_dir, RUN)];
        folders.extend(self.cache.iter().map(|path| Folder::look("--cache", path, RUN)));
        folders.extend(tuning::folder().map(|path| Folder::look("tuning cache", &path, 0)));
        let mut report = Report::look(folders);
        if !self.json {
            print_text(&page::facts(&report))?;
        }
        report.add_devices(in_own_process(DEVICES));
        if !self.json && !report.devices.is_empty() {
            print_text(&page::devices(&report))?;
        }
        let tests = self.test(&report, terminal);
        report.problems.extend(tests.iter().filter_map(Tested::problem));
        if self.json {
            print_json(&Page { report: &report, self_tests: &tests })?;
        } else {
            print_text(&page::findings(&report, &tests))?;
        }
        let sound = tests.iter().all(|test| test.problem().is_none());
        let sound = sound && !report.devices.is_empty();
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
            let outcome = in_own_process(&device).map_or_else(Outcome::Failed, Outcome::Result);
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
                "{device} computes wrong numbers (relative error {:.1e}): update its driver, or \
                 take another --device",
                test.conv_error
            )),
            Outcome::Result(_) => None,
        }
    }
}

/// A part's answer: one line of JSON.
fn answer(part: &str) -> CommandResult {
    fn line(outcome: &impl Serialize) -> CommandResult {
        print_text(&serde_json::to_string(outcome).map_err(Failure::runtime)?)?;
        Ok(ExitCode::SUCCESS)
    }
    if part == DEVICES {
        return line(&Outcome::Result(device::list()));
    }
    let test = device::open(part)
        .map_err(|error| message(&error))
        .and_then(|compute| SelfTest::run(&compute).map_err(|error| error.to_string()));
    line(&test.map_or_else(Outcome::Failed, Outcome::Result))
}

/// Has a part done in a process of its own, which a faulty driver may end or block.
fn in_own_process<T: DeserializeOwned>(part: &str) -> Result<T, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["doctor", "--quiet"]).env(PART, part).env("RUST_BACKTRACE", "0");
    let ended = process::run(&mut command, PATIENCE).map_err(|error| error.to_string())?;
    let Some(ended) = ended else {
        return Err(format!("no answer within {} s", PATIENCE.as_secs()));
    };
    // Drivers may print things of their own.
    let line = ended.stdout.lines().rfind(|line| line.starts_with('{'));
    match line.and_then(|line| serde_json::from_str(line).ok()) {
        Some(Outcome::Result(found)) => Ok(found),
        Some(Outcome::Failed(reason)) => Err(reason),
        None => Err(ended.failure()),
    }
}
