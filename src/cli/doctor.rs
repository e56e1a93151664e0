//! `polyview doctor`.

mod page;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::advice::message;
use super::{CommandResult, Terminal, print_json, print_json_line, print_text};
use crate::device;
use crate::doctor::{Folder, Report, SelfTest, process};
use crate::tuning;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Output folder of runs, to check that it is writable
    #[arg(long, value_name = "DIR", default_value = "checkpoints")]
    save_dir: PathBuf,
    /// Folder for decoded frames, if it is not in --save-dir
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Test this device only [default: all devices]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Do not run the self-tests
    #[arg(long, conflicts_with = "device")]
    no_self_test: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The result of a device's self-test.
#[derive(Debug, Clone, Serialize)]
struct Tested {
    /// The device's name, as `--device` takes it.
    device: String,
    #[serde(flatten)]
    outcome: Outcome<SelfTest>,
}

/// Outcome of a separate process, which prints it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome<T> {
    Result(T),
    Failed(String),
}

/// The report as JSON.
#[derive(Debug, Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    report: &'a Report,
    self_tests: &'a [Tested],
}

/// Environment variable that tells a separate process its part: `devices` or the name of a device.
const PART: &str = "POLYVIEW_DOCTOR_PART";
/// The part that lists the devices; no device has this name.
const DEVICES: &str = "devices";

/// Time limit of a separate process. A driver may hang, but the first compilation of shaders may also
/// take long.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Minimum space for checkpoints and decoded frames, bytes.
const MIN_FREE_BYTES: u64 = 2_000_000_000;

impl DoctorArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        if let Ok(part) = std::env::var(PART) {
            return answer(&part);
        }
        let mut folders = vec![Folder::inspect("--save-dir", &self.save_dir, MIN_FREE_BYTES)];
        folders
            .extend(self.cache.iter().map(|path| Folder::inspect("--cache", path, MIN_FREE_BYTES)));
        folders.extend(tuning::folder().map(|path| Folder::inspect("tuning cache", &path, 0)));
        let mut report = Report::collect(folders);
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
                "{device} computes wrong numbers ({}): update its driver, or use another --device",
                test.errors()
            )),
            Outcome::Result(_) => None,
        }
    }
}

/// Runs a part and prints its result as one line of JSON.
fn answer(part: &str) -> CommandResult {
    fn line(outcome: &impl Serialize) -> CommandResult {
        print_json_line(outcome)?;
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

/// Runs a part in a separate process, which a faulty driver may crash or block.
fn in_own_process<T: DeserializeOwned>(part: &str) -> Result<T, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["doctor", "--quiet"]).env(PART, part).env("RUST_BACKTRACE", "0");
    let ended = process::run(&mut command, TIMEOUT).map_err(|error| error.to_string())?;
    let Some(ended) = ended else {
        return Err(format!("no answer within {} s", TIMEOUT.as_secs()));
    };
    // Drivers may print to stdout too.
    let line = ended.stdout.lines().rfind(|line| line.starts_with('{'));
    match line.and_then(|line| serde_json::from_str(line).ok()) {
        Some(Outcome::Result(result)) => Ok(result),
        Some(Outcome::Failed(reason)) => Err(reason),
        None => Err(ended.failure()),
    }
}
