//! The program as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

/// The program with these arguments, to be started.
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
    command(args).envs(variables.iter().copied()).output().unwrap()
}

/// What was printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last line of stderr, which carries the error.
pub fn last_error(output: &Output) -> String {
    text(&output.stderr).lines().last().unwrap_or_default().to_owned()
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

/// `polyview train` with a tiny network on [`small_set`](super::data::small_set): two epochs that
/// take seconds.
pub fn train(data: &Path, save: &Path, more: &[&str]) -> Command {
    let mut command = command(&["train", "--dataset-root"]);
    command.arg(data).arg("--save-dir").arg(save).args(SMALL).args(more);
    command
}
