//! One-line messages about what is wrong with a command line.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::advice::message;
use super::quoted::quoted;
use crate::checkpoint::BEST;
use crate::options::{Spelling, long_names_of, option_error};

/// Formats clap's error about these arguments as one line: for an option, in the form used everywhere;
/// otherwise the first line of clap's message. `all` is the program's command with its subcommands.
pub(super) fn one_line(error: &clap::Error, args: &[OsString], all: &Command) -> String {
    let named = args.iter().skip(1).find_map(|arg| all.find_subcommand(arg));
    let typed = named.unwrap_or(all);
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    if argument.starts_with("--") && argument.len() > 2 {
        let mut known = long_names_of(typed);
        known.extend(
            all.get_arguments()
                .filter(|arg| arg.is_global_set())
                .filter_map(|arg| arg.get_long().map(str::to_owned)),
        );
        return message(&option_error(error, &known, Spelling::Dashed));
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some((what, option)) = option_for(argument, typed, args)
    {
        let value = quoted(Path::new(argument));
        return format!("{argument}: give {what} as --{option} {value}");
    }
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Returns what a file or folder is that was typed without an option, and the option that it needs.
/// Returns `None` if the command takes files without an option, or if the option has a value already.
fn option_for(
    argument: &str,
    command: &Command,
    args: &[OsString],
) -> Option<(&'static str, &'static str)> {
    let path = Path::new(argument);
    let ends_with = |extension: &str| path.extension().is_some_and(|e| e == extension);
    let (what, option) = if ends_with("toml") {
        ("the options", "config")
    } else if ends_with("safetensors") || path.join(BEST).is_file() {
        ("the checkpoint", "checkpoint")
    } else {
        ("the data set", "dataset-root")
    };
    let has = long_names_of(command).iter().any(|name| name == option);
    let given = |arg: &OsString| {
        let text = arg.to_string_lossy();
        text.trim_start_matches('-').split('=').next() == Some(option) && text.starts_with("--")
    };
    let fits = has && command.get_positionals().next().is_none() && !args.iter().any(given);
    (fits && !argument.is_empty() && !argument.starts_with('-')).then_some((what, option))
}
