//! Where options come from: the arguments of a command line, which override a file's entries.

use std::marker::PhantomData;
use std::path::Path;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::{ConfigError, shortcuts};
use crate::data::Window;
use crate::options::{self, Entry, OptionError};

/// Options of `T` as they were typed on a command line. Those not typed come from a file or the
/// defaults.
#[derive(Debug, Clone)]
pub struct Typed<T> {
    entries: Vec<Entry>,
    options: PhantomData<T>,
}

impl<T> Default for Typed<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), options: PhantomData }
    }
}

impl<T> Typed<T> {
    /// Returns whether this option was typed.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == option)
    }
}

impl<T> Typed<T> {
    /// Returns whether this option was typed with this value.
    pub(super) fn has_value(&self, option: &str, value: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == option && entry.values == [value])
    }
}

impl<T: Args> Typed<T> {
    /// Returns `T` with a file's options, overridden by those typed.
    pub(super) fn over(self, file: Option<&Path>) -> Result<T, ConfigError> {
        // Each source is expanded on its own: a shortcut on the command line overrides the file, and
        // an explicit option overrides a shortcut.
        let typed = shortcuts::expand(self.entries)?;
        let file = file.map_or(Ok(Vec::new()), read::<T>)?;
        Ok(options::parse(&overlay(file, typed))?)
    }

    /// Returns `T` with the options typed and the defaults of the others.
    pub(crate) fn resolve(self) -> Result<T, ConfigError> {
        self.over(None)
    }
}

/// Merges the entries of two sources, both expanded; those of `over` win.
pub(crate) fn overlay(under: Vec<Entry>, over: Vec<Entry>) -> Vec<Entry> {
    let mut entries = drop_replaced_window(under, &over);
    entries.retain(|entry| over.iter().all(|other| other.name != entry.name));
    entries.extend(over);
    entries
}

/// Options that together are another form of `window`.
const ENDS: [&str; 2] = ["start-frame", "end-frame"];

/// Returns the names of the options that an entry sets or replaces: those that a shortcut stands for, or
/// both ends of a window, or itself.
pub(crate) fn set_by(entry: &Entry) -> Vec<String> {
    let names = match shortcuts::stands_for(entry) {
        Some(names) => names,
        None if entry.name == "window" => vec!["window", ENDS[0], ENDS[1]],
        None => vec![entry.name.as_str()],
    };
    names.into_iter().map(str::to_owned).collect()
}

/// Removes those window options from a file's entries that another form of the window on the command
/// line replaces.
fn drop_replaced_window(mut entries: Vec<Entry>, typed: &[Entry]) -> Vec<Entry> {
    let is_typed = |name: &str| typed.iter().any(|entry| entry.name == name);
    if is_typed("window") {
        entries.retain(|entry| !ENDS.contains(&entry.name.as_str()));
    } else if ENDS.into_iter().any(is_typed)
        && let Some(at) = entries.iter().position(|entry| entry.name == "window")
    {
        let window = entries.remove(at);
        // If only one end is typed, the other one is still the file's.
        if let Ok(Window::Frames { start, end }) = window.values.concat().parse() {
            for (name, frame) in ENDS.into_iter().zip([start, end]) {
                entries.retain(|entry| entry.name != name);
                let end = Entry::new(name, vec![frame.to_string()]);
                entries.push(Entry { line: window.line, ..end });
            }
        }
    }
    entries
}

/// Reads a file's entries. They are also parsed on their own, so that an error names file and line.
pub(crate) fn read<T: Args>(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let fail = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    checked::<T>(options::from_toml(&text).map_err(fail)?, "").map_err(fail)
}

/// Expands a file's entries after parsing them on their own. `table` is the prefix of the file's table
/// that contains them, such as `base.`.
///
/// # Errors
/// A message with line, option and reason.
pub(crate) fn checked<T: Args>(entries: Vec<Entry>, table: &str) -> Result<Vec<Entry>, String> {
    let lines: Vec<(String, Option<usize>)> =
        entries.iter().map(|entry| (entry.name.clone(), entry.line)).collect();
    let explain = |error: OptionError| {
        let line = lines.iter().find(|(name, _)| *name == error.option);
        let line =
            line.and_then(|(_, line)| *line).map_or(String::new(), |n| format!("line {n}: "));
        format!("{line}{table}{error}")
    };
    if let Some(error) = entries.iter().find_map(negated::<T>) {
        return Err(explain(error));
    }
    let entries = shortcuts::expand(entries).map_err(explain)?;
    options::parse::<T>(&entries).map_err(explain)?;
    Ok(entries)
}

/// Returns an error for the command line's `no-` form of a switch, which a file writes as
/// `switch = false`.
fn negated<T: Args>(entry: &Entry) -> Option<OptionError> {
    let switch = entry.name.strip_prefix("no-")?;
    if shortcuts::is_shortcut(&entry.name)
        || !options::switch_names::<T>().iter().any(|s| s == switch)
    {
        return None;
    }
    let value = entry.values == ["false"];
    Some(OptionError::new(&entry.name, "", format!("write {switch} = {value}")))
}

impl<T: Args> Args for Typed<T> {
    fn augment_args(command: Command) -> Command {
        let names = options::long_names::<T>();
        command
            .allow_negative_numbers(true)
            .args(options::cli_arguments::<T>())
            .args(shortcuts::arguments(&names))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Args> FromArgMatches for Typed<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (names, switches) = (options::long_names::<T>(), options::switch_names::<T>());
        let mut entries = options::from_matches(matches, &names, &switches).map_err(|error| {
            clap::Error::raw(clap::error::ErrorKind::InvalidUtf8, format!("--{error}\n"))
        })?;
        entries.extend(shortcuts::from_matches(matches));
        Ok(Self { entries, options: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
