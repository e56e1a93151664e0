//! The command line. Each command turns its options into calls of the library; nothing here trains
//! or decodes.

mod advice;
mod augment;
mod averaging;
mod bars;
mod bench;
mod check_data;
mod compare;
mod compare_freezing;
mod devices;
mod doctor;
mod evaluate;
mod export;
mod init_schema;
mod input;
mod lr_find;
mod out_file;
mod predict;
mod quoted;
mod sampled_window;
mod serve;
mod shell;
mod signals;
mod source;
mod start_summary;
mod sweep;
mod synth;
mod terminal;
mod train;
mod trained;
mod usage;
mod visible;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cluster::processes_launched;
pub use terminal::Terminal;
pub use train::train_config;

/// Exit status after an interruption by the user, as shells define it (128 + SIGINT).
const EXIT_INTERRUPTED: u8 = 130;
/// Exit status of a command that failed.
const EXIT_FAILURE: u8 = 1;
/// Exit status for bad usage; clap's own.
const EXIT_USAGE: u8 = 2;

/// Trains multi-task, multi-view 3D ResNets on video, on the CPU or on GPUs through wgpu.
#[derive(Debug, Parser)]
#[command(name = "polyview", version, about, max_term_width = 100, args_override_self = true)]
struct Cli {
    /// Log more on stderr (-v: debug, -vv: trace)
    #[arg(short, long, global = true, display_order = 1000, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log only warnings and errors on stderr
    #[arg(short, long, global = true, display_order = 1001, conflicts_with = "verbose")]
    quiet: bool,
    /// Log level: error, warn, info, debug or trace [default: info]
    #[arg(long, global = true, display_order = 1002, value_name = "LEVEL", value_parser = log_level)]
    #[arg(conflicts_with_all = ["verbose", "quiet"])]
    log_level: Option<log::LevelFilter>,
    #[command(subcommand)]
    command: Command,
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "must be error, warn, info, debug or trace".to_owned())
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network, validate it each epoch, write checkpoints and history
    Train(Box<train::TrainArgs>),
    /// Train a set of configurations, each in a folder of its own, and compare them
    Sweep(sweep::SweepArgs),
    /// Find a learning rate: train some steps while the rate rises, and watch the loss
    LrFind(Box<lr_find::LrFindArgs>),
    /// Check every annotation and clip of a data set
    CheckData(check_data::CheckDataArgs),
    /// Write the schema of a data set, inferred from its labels, to be edited
    InitSchema(init_schema::InitSchemaArgs),
    /// Write a small synthetic data set with real mp4 files
    Synth(synth::SynthArgs),
    /// Draw a contact sheet of what the augmentation does to an action
    Augment(Box<augment::AugmentArgs>),
    /// Evaluate a checkpoint on a split, or a prediction file of SoccerNet-MVFoul
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Compare runs: results, options that differ, differences with their intervals
    Compare(compare::CompareArgs),
    /// Classify actions from their clips
    #[command(override_usage = "polyview predict --checkpoint <FILE> [OPTIONS] <CLIP>...")]
    Predict(Box<predict::PredictArgs>),
    /// Serve a trained network on this machine, as a page and an API that takes clips
    #[command(override_usage = "polyview serve --checkpoint <FILE> [OPTIONS]")]
    Serve(Box<serve::ServeArgs>),
    /// Export a checkpoint's weights, or a page that runs the model in a browser
    Export(export::ExportArgs),
    /// Time training steps, and each convolution in them
    Bench(bench::BenchArgs),
    /// List the devices this binary can use
    Devices(devices::DevicesArgs),
    /// Check this machine and each device, and print what a bug report needs
    #[command(
        after_help = "Exit status 1 if the devices cannot be listed, or one cannot be tested \
                            or computes wrong numbers."
    )]
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page
    Man(shell::ManArgs),
}

impl Command {
    /// Returns whether several processes would do the same work and write the same files.
    fn is_for_one_process(&self) -> bool {
        // Commands about the machine may be run on every node.
        let of_machine = matches!(self, Self::Bench(_) | Self::Devices(_) | Self::Doctor(_));
        !of_machine && !matches!(self, Self::Train(_) | Self::Completions(_) | Self::Man(_))
    }
}

/// Groups of commands in `--help`.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Training",
        &["train", "sweep", "compare", "lr-find", "evaluate", "predict", "serve", "export"],
    ),
    ("Data", &["check-data", "init-schema", "augment", "synth"]),
    ("This machine", &["devices", "doctor", "bench"]),
    ("Shell", &["completions", "man", "help"]),
];

/// Commands that read clips as the checkpoint's network was trained, unless options override that.
const CHECKPOINT_COMMANDS: [&str; 3] = ["evaluate", "predict", "serve"];

/// Builds the command line. clap groups options, not commands, so the list of commands is made here.
fn command() -> clap::Command {
    let hidden = |command: clap::Command| {
        let hide = |command: clap::Command, id| command.mut_arg(id, |option| option.hide(true));
        lr_find::WITHOUT_EFFECT.into_iter().fold(command, hide)
    };
    let command = Cli::command()
        .mut_subcommands(|subcommand| subcommand.allow_negative_numbers(true))
        .mut_subcommand("lr-find", hidden)
        .mut_subcommand("evaluate", evaluate::refuse_ignored);
    let command = CHECKPOINT_COMMANDS.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| {
            subcommand.mut_arg("window", |option| {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                option.help(help.replace("the schema's, else dense", "the checkpoint's"))
            })
        })
    });
    let style = command.get_styles().clone();
    let (header, literal) = (style.get_header(), style.get_literal());
    let mut list = String::new();
    for (title, names) in GROUPS {
        list.push_str(&format!("{header}{title}:{header:#}\n"));
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about =
                about.map_or_else(|| "Print help for a command".to_owned(), ToString::to_string);
            list.push_str(&format!("  {literal}{name:<12}{literal:#} {about}\n"));
        }
        list.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{header}Options:{header:#}\n{{options}}"
    ))
}

/// Why a command failed, with its exit status.
#[derive(Debug)]
struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self { message: error.to_string(), status: EXIT_USAGE }
    }

    fn runtime(error: impl std::fmt::Display) -> Self {
        Self { message: error.to_string(), status: EXIT_FAILURE }
    }
}

type CommandResult = Result<ExitCode, Failure>;

/// Runs the program with these arguments, the first of which is its name, and prints errors.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = dashes(args).collect();
    let parsed =
        command().try_get_matches_from(&args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // clap reports help and version as "errors" with status 0.
            let status = u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE);
            match error.kind() {
                ErrorKind::ValueValidation
                | ErrorKind::InvalidValue
                | ErrorKind::TooManyValues
                | ErrorKind::InvalidUtf8
                | ErrorKind::ArgumentConflict
                | ErrorKind::UnknownArgument => {
                    print_error(&usage::one_line(&error, &args, &command()));
                }
                // A closed pipe is not worth an error.
                _ => drop(error.print()),
            }
            return ExitCode::from(status);
        }
    };
    let level = cli.log_level.unwrap_or(match (cli.quiet, cli.verbose) {
        (true, _) => log::LevelFilter::Warn,
        (false, 0) => log::LevelFilter::Info,
        (false, 1) => log::LevelFilter::Debug,
        (false, _) => log::LevelFilter::Trace,
    });
    let terminal = Terminal::new(level);
    let processes = processes_launched();
    let result = match cli.command {
        command if processes > 1 && command.is_for_one_process() => Err(Failure::usage(format!(
            "this is one of {processes} processes, each of which would do the same and write the \
             same files: only train divides its work among them; start this without mpirun"
        ))),
        Command::Train(args) => args.run(terminal),
        Command::Sweep(args) => args.run(&terminal),
        Command::LrFind(args) => args.run(&terminal),
        Command::CheckData(args) => args.run(&terminal),
        Command::InitSchema(args) => args.run(&terminal),
        Command::Synth(args) => args.run(&terminal),
        Command::Augment(args) => args.run(),
        Command::Evaluate(args) => args.run(&terminal),
        Command::Compare(args) => args.run(&terminal),
        Command::Predict(args) => args.run(&terminal),
        Command::Serve(args) => args.run(&terminal),
        Command::Export(args) => args.run(),
        Command::Bench(args) => args.run(&terminal),
        Command::Devices(args) => args.run(),
        Command::Doctor(args) => args.run(&terminal),
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(),
    };
    result.unwrap_or_else(|failure| {
        print_error(&failure.message);
        ExitCode::from(failure.status)
    })
}

/// Prints an error on stderr. If that fails, for example because nobody reads it, nothing can be done.
fn print_error(error: &dyn std::fmt::Display) {
    use std::io::Write;
    // In a single write, because other processes may write there too.
    let text = format!("error: {error}");
    let _ = std::io::stderr().write_all(format!("{}\n", visible::visible(&text)).as_bytes());
}

/// Replaces underscores in option names by dashes (`--dataset_root` becomes `--dataset-root`), because
/// users of the old trainer type them so. Values and everything after `--` stay unchanged.
fn dashes(args: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut options = true;
    args.into_iter().map(move |arg| {
        options &= arg != "--";
        if options { with_dashes(arg) } else { arg }
    })
}

fn with_dashes(arg: OsString) -> OsString {
    // The value need not be UTF-8.
    let bytes = arg.as_encoded_bytes();
    let end = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).ok().filter(|name| name.starts_with("--"));
    let (Some(name), Some(value)) = (name, from(&arg, end)) else {
        return arg;
    };
    let mut changed = OsString::from(name.replace('_', "-"));
    changed.push(value);
    changed
}

/// Returns the rest of an argument from byte `start`, which must begin a character.
fn from(arg: &OsStr, start: usize) -> Option<&OsStr> {
    #[cfg(unix)]
    return Some(std::os::unix::ffi::OsStrExt::from_bytes(&arg.as_encoded_bytes()[start..]));
    #[cfg(not(unix))]
    return arg.to_str().map(|text| OsStr::new(&text[start..]));
}

/// Prints a value on stdout as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_json_text(&serde_json::to_string_pretty(value).map_err(Failure::runtime)?)
}

/// Like [`print_json`], on one line.
fn print_json_line(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_json_text(&serde_json::to_string(value).map_err(Failure::runtime)?)
}

fn print_json_text(text: &str) -> Result<(), Failure> {
    print_bytes(format!("{}\n", visible::in_json(text)).as_bytes())
}

/// Prints a result and a newline on stdout.
fn print_text(text: &str) -> Result<(), Failure> {
    print_bytes(format!("{}\n", visible::visible(text)).as_bytes())
}

/// Prints a result on stdout unchanged; a closed pipe is not an error.
fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Cli::command();
        let mut names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        names.push("help");
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        names.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(names, grouped);
        command.debug_assert();
    }

    #[test]
    fn options_that_may_be_suggested_exist() {
        let command = command();
        let known: Vec<String> =
            command.get_subcommands().flat_map(crate::options::long_names_of).collect();
        for option in crate::options::suggested() {
            assert!(known.iter().any(|name| name == option), "{option}");
        }
    }
}
