//! `polyview train`.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use serde_json::json;

use super::advice::message;
use super::compare_freezing;
use super::quoted::quoted;
use super::terminal::HOW_TO_CONTINUE;
use super::{CommandResult, EXIT_INTERRUPTED, Failure, Terminal};
use crate::checkpoint::{CONFIG, LAST, is_directly_in};
use crate::cluster::Cluster;
use crate::config::{AUTO, Config, Typed};
use crate::options::{Spelling, choice, choices, long_names_of, option_error};
use crate::report::{Event, Observer};
use crate::train::{self, TrainError};

choices! {
    /// How a run shows its progress.
    Progress {
        /// Bars and lines on stderr.
        Bar = "bar",
        /// One JSON object per event on stdout, logs on stderr.
        Json = "json",
    }
}

/// Options of `polyview train`; those not given come from `--config` or the defaults.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// TOML file of options, which the command line overrides [e.g. SAVE_DIR/config.toml]
    #[arg(long, value_name = "FILE", help_heading = "Run and checkpoints")]
    config: Option<PathBuf>,
    /// bar: progress bars on stderr; json: one object per event on stdout, logs on stderr
    #[arg(long, value_name = "FORMAT", help_heading = "Run and checkpoints")]
    #[arg(value_parser = choice::<Progress>(), default_value_t = Progress::Bar)]
    progress: Progress,
    #[command(flatten)]
    options: Typed<Config>,
}

/// Prints an event as a line of JSON on stdout. A closed pipe is no reason to stop training.
fn print_event(event: &impl serde::Serialize) {
    match serde_json::to_string(event) {
        Ok(line) => {
            let _ = super::print_json_text(&line);
        }
        Err(error) => log::warn!("--progress json: {error}"),
    }
}

/// Returns the configuration that a `polyview train` command line specifies (options only, without
/// the names of the program and the command), for programs that take the same options.
///
/// # Errors
/// The message that the program would print, without colours.
pub fn train_config(
    args: impl IntoIterator<Item = impl Into<std::ffi::OsString>>,
) -> Result<Config, String> {
    let command = TrainArgs::augment_args(Command::new("train").no_binary_name(true));
    let args = super::dashes(args.into_iter().map(Into::into));
    let known = long_names_of(&command);
    let matches = command.try_get_matches_from(args);
    let typed = matches.and_then(|matches| TrainArgs::from_arg_matches(&matches));
    let typed = typed.map_err(|error| message(&option_error(&error, &known, Spelling::Dashed)))?;
    Config::resolve(typed.config.as_deref(), typed.options).map_err(|error| message(&error))
}

/// Refuses to continue the run that is in the folder of the configuration file, or to start it again, in the
/// folder that the file names if the run was renamed or moved since.
fn refuse_moved(config: &Config, file: &Path) -> Result<(), Failure> {
    let Some(from) = &config.run.resume else { return Ok(()) };
    let save_dir = &config.run.save_dir;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let (moved, why) = if from.as_os_str() == AUTO {
        let moved = !save_dir.join(LAST).exists() && folder.join(LAST).is_file();
        let save_dir = save_dir.display();
        (moved, format!("there is no checkpoint in {save_dir}, but one in {}", folder.display()))
    } else {
        // A file of another name may well be beside the checkpoint of another run.
        let of_run = file.file_name().is_some_and(|name| name == CONFIG);
        let moved = of_run && is_directly_in(from, folder) && !is_directly_in(from, save_dir);
        let folder = folder.display();
        (moved, format!("it is not in {}, the save-dir, but in {folder}", save_dir.display()))
    };
    if !moved {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--resume {}: {why}, the folder of --config; continue it with --save-dir {}",
        from.display(),
        quoted(folder)
    )))
}

impl TrainArgs {
    pub(super) fn run(self, mut terminal: Terminal) -> CommandResult {
        let names_folder = self.options.has("save-dir");
        let config = Config::resolve(self.config.as_deref(), self.options)?;
        if let Some(file) = self.config.as_deref().filter(|_| !names_folder) {
            refuse_moved(&config, file)?;
        }
        let timeout = Duration::from_secs(config.compute.rank_timeout as u64);
        let cluster = Cluster::join(timeout).map_err(TrainError::from)?.map(Rc::new);
        let Some(cluster) = &cluster else {
            return Self::train(&config, self.progress, None, &mut terminal);
        };
        if !cluster.is_lead() {
            // The leading rank logs what concerns all ranks.
            log::set_max_level(log::LevelFilter::Error);
            super::terminal::warn_as(cluster.name(cluster.rank()));
        }
        let result = Self::train(&config, self.progress, Some(cluster), &mut terminal);
        if let Err(failure) = &result {
            if !cluster.is_lead() {
                // An error that occurs on every rank is meanwhile reported by the leading one, which ends
                // all of them, so that it is printed once.
                std::thread::sleep(Duration::from_secs(2));
            }
            cluster.abort(&failure.message, failure.status);
        }
        result
    }

    fn train(
        config: &Config,
        progress: Progress,
        cluster: Option<&Rc<Cluster>>,
        terminal: &mut Terminal,
    ) -> CommandResult {
        let stop = super::signals::stop_flag();
        let started = Cell::new(false);
        let mut lines = |event: &Event| {
            started.set(true);
            print_event(event);
        };
        let mut silence = |event: &Event| {
            if matches!(event, Event::Started(_)) {
                log::set_max_level(log::LevelFilter::Warn);
            }
        };
        let shows = cluster.is_none_or(|cluster| cluster.is_lead());
        let observer: &mut dyn Observer = match progress {
            _ if !shows => &mut silence,
            Progress::Bar => terminal,
            Progress::Json => &mut lines,
        };
        let failed = |error: TrainError| -> Failure {
            let failure = Failure::from(error);
            if started.get() {
                print_event(&json!({ "event": "failed", "message": failure.message }));
            }
            failure
        };
        let interrupted = if config.run.compare_freezing {
            let comparison = train::compare_freezing(config, cluster, &stop, observer);
            let comparison = comparison.map_err(failed)?;
            match progress {
                _ if !shows => {}
                Progress::Bar => {
                    super::print_text(&compare_freezing::table(&comparison))?;
                    if comparison.unfrozen.interrupted {
                        terminal.line(HOW_TO_CONTINUE);
                    }
                }
                Progress::Json => print_event(&compare_freezing::event(&comparison)),
            }
            comparison.unfrozen.interrupted
        } else {
            let outcome =
                train::run_on_cluster(config, cluster, &stop, observer).map_err(failed)?;
            if shows && progress == Progress::Bar {
                terminal.finish(&outcome, config);
            }
            outcome.interrupted
        };
        Ok(if interrupted { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::SUCCESS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_moved_is_not_continued_in_its_old_folder() {
        let root = tempfile::tempdir().expect("a folder");
        let [old, moved] = ["old", "moved"].map(|name| root.path().join(name));
        std::fs::create_dir(&moved).expect("a folder");
        std::fs::write(moved.join(LAST), "").expect("a file");
        let refused = |from: &Path, save_dir: &Path, file: &str| {
            let mut config = Config::default();
            config.run.resume = Some(from.to_owned());
            config.run.save_dir = save_dir.to_owned();
            refuse_moved(&config, &moved.join(file)).err().map(|failure| failure.message)
        };
        let last = moved.join(LAST);
        let advice =
            format!("the folder of --config; continue it with --save-dir {}", quoted(&moved));
        for from in [Path::new(AUTO), &last] {
            let message = refused(from, &old, CONFIG).expect("the run was moved");
            assert!(message.ends_with(&advice), "{message}");
            assert!(message.starts_with(&format!("--resume {}: ", from.display())), "{message}");
            assert_eq!(refused(from, &moved, CONFIG), None);
        }
        // Another configuration for a new run, which begins with these weights.
        assert_eq!(refused(&last, &old, "new.toml"), None);
        assert_eq!(refused(&root.path().join("other/last.safetensors"), &old, CONFIG), None);
    }
}
