//! `polyview train`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::{CommandResult, EXIT_INTERRUPTED, Terminal, options};
use crate::choices::choices;
use crate::config::Config;
use crate::report::{Event, Observer};
use crate::train;

choices! {
    /// How a run shows its progress.
    Progress {
        /// Bars and lines on stderr.
        Bar = "bar",
        /// One JSON object per event on stdout, nothing but warnings on stderr.
        Json = "json",
    }
}

/// Options as typed; what is absent comes from `--config` or the defaults.
#[derive(Debug)]
pub struct TrainArgs {
    config: Option<PathBuf>,
    progress: Progress,
    typed: toml::Table,
}

impl Args for TrainArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help_heading("Basic")
            .help(
                "TOML file of options; the command line wins over it [e.g. SAVE_DIR/config.toml]",
            );
        let progress = Arg::new("progress")
            .long("progress")
            .value_name("FORM")
            .value_parser(|text: &str| text.parse::<Progress>())
            .default_value("bar")
            .help_heading("Basic")
            .help("bar: for people, on stderr; json: one object per event, on stdout");
        options::add(command.arg(config).arg(progress), options::TRAIN)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TrainArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            config: matches.get_one::<PathBuf>("config").cloned(),
            progress: matches.get_one("progress").copied().unwrap_or(Progress::Bar),
            typed: options::typed(matches, options::TRAIN),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// An event as a line of JSON on stdout. A reader that left is no reason to stop training.
fn print_event(event: &Event) {
    match serde_json::to_string(event) {
        Ok(line) => {
            let _ = super::print_text(&line);
        }
        Err(error) => log::warn!("--progress json: {error}"),
    }
}

/// The configuration that a `polyview train` command line gives (options only, without the
/// program's and the command's name), as a program of one's own may want it.
///
/// # Errors
/// What the program would print, without its colours.
pub fn train_config(
    args: impl IntoIterator<Item = impl Into<std::ffi::OsString>>,
) -> Result<Config, String> {
    let command = TrainArgs::augment_args(Command::new("train").no_binary_name(true));
    let args = args.into_iter().map(|arg| super::dashes(arg.into()));
    let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
    let typed = TrainArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    Config::resolve(typed.config.as_deref(), typed.typed).map_err(|error| error.to_string())
}

impl TrainArgs {
    pub(super) fn run(&self, mut terminal: Terminal) -> CommandResult {
        let config = Config::resolve(self.config.as_deref(), self.typed.clone())?;
        let stop = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&stop);
        let installed = ctrlc::set_handler(move || {
            if raised.swap(true, Ordering::Relaxed) {
                // The second time means now.
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
        });
        if let Err(error) = installed {
            log::warn!("Ctrl-C will end the run without a checkpoint: {error}");
        }
        let mut lines = print_event;
        let observer: &mut dyn Observer = match self.progress {
            Progress::Bar => &mut terminal,
            Progress::Json => &mut lines,
        };
        let interrupted = if config.compare_freezing {
            let comparison = train::compare_freezing(&config, &stop, observer)?;
            if self.progress == Progress::Bar {
                super::print_text(&super::comparison::table(&comparison))?;
            }
            comparison.unfrozen.interrupted
        } else {
            let outcome = train::run(&config, &stop, observer)?;
            if self.progress == Progress::Bar {
                terminal.finish(&outcome);
            }
            outcome.interrupted
        };
        Ok(if interrupted { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::SUCCESS })
    }
}
