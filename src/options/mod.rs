//! How options are declared and read.
//!
//! An option is a field of a struct that derives [`clap::Args`] and serde's traits: its name,
//! default, range, help and section are declared there and nowhere else. A configuration file and the
//! command line are both read as [`Entry`]s and parsed by the same struct, so a value has one
//! meaning and one error message wherever it comes from.
//!
//! Switches are plain `bool` fields. [`cli_arguments`] adds the `--no-` form of each; the help
//! shows the form that changes something, so the help text of a switch that is on by default is
//! that of its `--no-` form.

mod choices;
mod entries;
mod parse;
mod paths;
mod ranges;
mod synonyms;

pub(crate) use choices::{Choice, choice, choices};
use entries::from_serialized;
pub(crate) use entries::{
    Entry, Kind, from_matches, from_table, from_toml, from_value, line_of, parse_toml,
};
pub(crate) use parse::{
    cli_arguments, default_of, long_names, long_names_of, member_of, option_error, parse,
    switch_names, validate,
};
pub(crate) use paths::{file_or_folder, optional_path_text, path, path_or_empty, path_text};
pub(crate) use ranges::{
    at_least, below_one, between, epochs, factor, inside_unit, not_negative, positive, scale, seed,
    size, unit, whole, within,
};
pub(crate) use synonyms::Spelling;
#[cfg(test)]
pub(crate) use synonyms::suggested;

/// Group of the options that may differ between a run and its continuation without affecting the
/// results; marked at the field with `group = RESUME_MAY_CHANGE`.
pub(crate) const RESUME_MAY_CHANGE: &str = "resume-may-change";
/// Group of the options that belong to one start of a run. They are left out of the configuration that a
/// run writes, as the run is repeated with that.
pub(crate) const ONE_START: &str = "one-start";

/// Error about an option with a value that it does not take. The message names the option without dashes, as
/// files do; a command line puts them before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}{}{value}: {reason}", if .value.is_empty() { "" } else { " " })]
pub struct OptionError {
    /// The option's name without dashes.
    pub option: String,
    /// The value as given; empty if there is none.
    pub value: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl OptionError {
    pub(crate) fn new(
        option: impl Into<String>,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> Self {
        Self { option: option.into(), value: value.to_string(), reason: reason.into() }
    }
}

/// Implements `Default` with the defaults declared at the fields.
macro_rules! option_defaults {
    ($($name:ty),+) => {$(
        impl Default for $name {
            fn default() -> Self {
                $crate::options::default_of()
            }
        }
    )+};
}
pub(crate) use option_defaults;
