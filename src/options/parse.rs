//! Parses entries to a struct of options, through clap.

use std::error::Error;

use clap::builder::{BoolValueParser, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgGroup, Args, Command};

use super::synonyms::{self, Spelling};
use super::{Entry, Kind, ONE_START, OptionError, RESUME_MAY_CHANGE, from_serialized};

/// Returns a command with the options of `T` as its derive declares them.
fn command<T: Args>() -> Command {
    let command = Command::new("options")
        .no_binary_name(true)
        .disable_help_flag(true)
        .allow_negative_numbers(true)
        .groups([RESUME_MAY_CHANGE, ONE_START].map(|group| ArgGroup::new(group).multiple(true)));
    T::augment_args(command)
}

/// Parses entries, each option at most once.
///
/// # Errors
/// The option, its value and what it takes.
pub(crate) fn parse<T: Args>(entries: &[Entry]) -> Result<T, OptionError> {
    let declared = command::<T>();
    for entry in entries {
        check_kind(&declared, entry)?;
    }
    // Entries give switches with a value.
    let command = declared.mut_args(|arg| {
        if !is_switch(&arg) {
            return arg;
        }
        let default = if is_on(&arg) { "true" } else { "false" };
        arg.action(ArgAction::Set)
            .num_args(1)
            .value_parser(BoolValueParser::new())
            .default_value(default)
    });
    // An empty list is the same as leaving the option out.
    let given = entries.iter().filter(|entry| !entry.values.is_empty());
    let arguments = given.flat_map(Entry::arguments);
    let parsed = command.try_get_matches_from(arguments);
    parsed
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| option_error(&error, &long_names::<T>(), Spelling::Bare))
}

/// Refuses a list for an option that takes one value, and `true` or `false` for anything but a switch.
fn check_kind(declared: &Command, entry: &Entry) -> Result<(), OptionError> {
    let is = |arg: &&Arg| arg.get_long() == Some(entry.name.as_str());
    let Some(arg) = declared.get_arguments().find(is) else {
        // Unknown options are refused with a suggestion when they are parsed.
        return Ok(());
    };
    let several = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let reason = match entry.kind {
        Kind::List if !several => "takes one value, not a list",
        Kind::Switch if !is_switch(arg) => "takes a value, not true or false",
        Kind::Text | Kind::Switch | Kind::List => return Ok(()),
    };
    Err(OptionError::new(&entry.name, entry.values.join(" "), reason))
}

/// Checks a struct that a program filled in. The ranges are declared at the fields, so its values are
/// parsed like a file's.
///
/// # Errors
/// Those of [`parse`].
pub(crate) fn validate<T: Args + serde::Serialize>(options: &T) -> Result<(), OptionError> {
    parse::<T>(&from_serialized(options)?).map(drop)
}

/// Returns `T` with the default of each option.
pub(crate) fn default_of<T: Args>() -> T {
    parse(&[]).expect("an option's default is within its range")
}

/// Returns the names of `T`'s options, without leading dashes.
pub(crate) fn long_names<T: Args>() -> Vec<String> {
    long_names_of(&command::<T>())
}

/// Returns the names of a command's options.
pub(crate) fn long_names_of(command: &Command) -> Vec<String> {
    command.get_arguments().filter_map(Arg::get_long).map(str::to_owned).collect()
}

/// Returns the names of `T`'s switches.
pub(crate) fn switch_names<T: Args>() -> Vec<String> {
    let command = command::<T>();
    let switches = command.get_arguments().filter(|arg| is_switch(arg));
    switches.filter_map(Arg::get_long).map(str::to_owned).collect()
}

/// Returns the names of `T`'s options that are marked with this group.
pub(crate) fn member_of<T: Args>(group: &str) -> Vec<String> {
    let mut command = command::<T>();
    command.build();
    let ids: Vec<_> = command
        .get_groups()
        .filter(|candidate| candidate.get_id().as_str() == group)
        .flat_map(|group| group.get_args().cloned())
        .collect();
    let members = command.get_arguments().filter(|arg| ids.contains(arg.get_id()));
    members.filter_map(Arg::get_long).map(str::to_owned).collect()
}

/// Returns `T`'s options for a command line: a repeated option overrides the earlier ones, and a switch
/// has two forms.
pub(crate) fn cli_arguments<T: Args>() -> Vec<Arg> {
    let declared = command::<T>();
    let mut arguments = Vec::new();
    for (order, arg) in declared.get_arguments().enumerate() {
        let id = arg.get_id().clone();
        // Groups are internal and would only appear in the help.
        let arg = arg.clone().overrides_with(&id).display_order(order).group(Resettable::Reset);
        if !is_switch(&arg) {
            arguments.push(arg);
            continue;
        }
        let (long, on) =
            (arg.get_long().expect("a switch has a long name").to_owned(), is_on(&arg));
        let negation = format!("no-{long}");
        let mut no = Arg::new(negation.clone())
            .long(negation.clone())
            .action(ArgAction::SetTrue)
            .overrides_with_all([negation.clone(), id.to_string()])
            .display_order(order)
            .hide(!on);
        if let Some(heading) = arg.get_help_heading() {
            no = no.help_heading(heading.to_owned());
        }
        if let Some(help) = arg.get_help() {
            no = no.help(help.clone());
        }
        arguments.push(arg.default_value("false").overrides_with(negation).hide(on));
        arguments.push(no);
    }
    arguments
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn is_on(switch: &Arg) -> bool {
    switch.get_default_values().first().is_some_and(|value| value == "true")
}

/// Converts clap's error about an option to one line: the option, its value, the reason. `known` are the
/// existing options, which the reason spells as given.
pub(crate) fn option_error(
    error: &clap::Error,
    known: &[String],
    spelling: Spelling,
) -> OptionError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let shown = text(ContextKind::InvalidArg);
    let option = shown.split([' ', '=']).next().unwrap_or_default().trim_start_matches('-');
    let value = text(ContextKind::InvalidValue);
    let reason = match error.kind() {
        ErrorKind::ValueValidation => error.source().map(ToString::to_string),
        ErrorKind::InvalidValue if value.is_empty() => Some("a value is required".to_owned()),
        ErrorKind::InvalidValue => {
            Some(format!("must be one of {}", text(ContextKind::ValidValue)))
        }
        ErrorKind::ArgumentConflict => {
            // As clap shows them: `--verbose...`, `--out <FILE>`.
            let others = text(ContextKind::PriorArg);
            let names = others.split(", ").map(|other| other.split([' ', '.']).next());
            let names: Vec<&str> = names.flatten().collect();
            Some(format!("cannot be used with {}", names.join(", ")))
        }
        ErrorKind::TooManyValues => Some("a switch takes no value".to_owned()),
        ErrorKind::UnknownArgument => {
            let suggested = text(ContextKind::SuggestedArg);
            Some(synonyms::unknown(option, suggested.trim_start_matches('-'), known, spelling))
        }
        _ => None,
    };
    let reason = reason.unwrap_or_else(|| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    });
    OptionError::new(option, value, reason)
}
