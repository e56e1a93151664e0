//! The options of a training run as the command line has them: from one table, clap's arguments,
//! their help and the configuration's entries. Names, defaults and meaning
//! are [`Config`]'s; what is typed here is only checked for its form.

mod table;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use toml::{Table, Value};

use Takes::{Integer, Number, Numbers, Old, Shortcut, Switch, Text, Word};
pub(super) use table::{AUGMENTATION, Group, TRAIN};
use table::{Row, Takes};

use crate::config::Config;

/// Adds the groups' options to a command.
pub(super) fn add(command: Command, groups: &[&Group]) -> Command {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let shortcuts = Config::shortcuts();
    let mut command = command.allow_negative_numbers(true);
    for group in groups {
        for &row in group.rows {
            let default = defaults.get(row.0);
            let meaning = shortcuts.iter().find(|(name, _)| *name == row.0);
            let help = meaning.map_or(row.3, |(_, help)| help);
            for arg in arguments(row, help, default) {
                command = command.arg(arg.help_heading(group.heading));
            }
        }
    }
    command
}

fn arguments(row: Row, help: &str, default: Option<&Value>) -> Vec<Arg> {
    let (name, takes, value, _) = row;
    let arg = Arg::new(name).long(name);
    let parser: ValueParser = match takes {
        Integer => value_parser!(i64).into(),
        Number | Numbers => value_parser!(f64).into(),
        Text | Old => value_parser!(String),
        Word(parse) => ValueParser::new(move |text: &str| parse(text)),
        Shortcut => {
            return vec![arg.action(ArgAction::SetTrue).help(help.to_owned())];
        }
        Switch(off) => return switch(name, off, help, default),
    };
    let default = match default {
        Some(Value::String(text)) if !text.is_empty() => format!(" [default: {text}]"),
        Some(Value::Integer(number)) => format!(" [default: {number}]"),
        // 1e-5 rather than 0.00001.
        Some(Value::Float(number)) if *number != 0.0 && number.abs() < 1e-3 => {
            format!(" [default: {number:e}]")
        }
        Some(Value::Float(number)) => format!(" [default: {number}]"),
        _ => String::new(),
    };
    let arg = arg.value_name(value).value_parser(parser).help(format!("{help}{default}"));
    // The last one typed counts.
    let arg = arg.overrides_with(name);
    vec![if matches!(takes, Numbers) { arg.num_args(1..) } else { arg }]
}

/// Both forms of a switch; the help shows the one that changes something.
fn switch(name: &'static str, off: &'static str, help: &str, default: Option<&Value>) -> Vec<Arg> {
    let is_on = default.and_then(Value::as_bool).unwrap_or(false);
    let form = |name: &'static str, hidden: bool| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).hide(hidden)
    };
    vec![
        form(name, is_on).overrides_with_all([name, off]).help(help.to_owned()),
        form(off, !is_on)
            .overrides_with_all([name, off])
            .help(format!("Not: {help} [default: on]")),
    ]
}

/// What was typed of the groups' options, under their names.
pub(super) fn typed(matches: &ArgMatches, groups: &[&Group]) -> Table {
    let mut table = Table::new();
    for &(name, takes, ..) in groups.iter().flat_map(|group| group.rows) {
        let value = match takes {
            Integer => matches.get_one::<i64>(name).map(|number| Value::Integer(*number)),
            Number => matches.get_one::<f64>(name).map(|number| Value::Float(*number)),
            Numbers => matches
                .get_many::<f64>(name)
                .map(|numbers| Value::Array(numbers.map(|number| Value::Float(*number)).collect())),
            Text | Word(_) => {
                matches.get_one::<String>(name).map(|text| number_or_text(name, text))
            }
            Old => matches.get_one::<String>(name).map(|_| Value::Boolean(true)),
            Shortcut => matches.get_flag(name).then_some(Value::Boolean(true)),
            Switch(off) => match (matches.get_flag(name), matches.get_flag(off)) {
                (false, false) => None,
                (on, _) => Some(Value::Boolean(on)),
            },
        };
        if let Some(value) = value {
            table.insert(name.to_owned(), value);
        }
    }
    table
}

/// A word that may be a number where the option also takes one.
fn number_or_text(name: &str, text: &str) -> Value {
    match text.parse() {
        Ok(number) if name == "early-stopping-patience" => Value::Integer(number),
        _ => Value::String(text.to_owned()),
    }
}
