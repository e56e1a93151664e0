//! Options as a source gives them: a configuration file, the command line, or a struct of options
//! that a program filled in.

use std::ffi::OsStr;

use clap::ArgMatches;
use clap::parser::ValueSource;
use toml::de::{DeString, DeTable, DeValue};
use toml::{Spanned, Value};

use super::OptionError;
use super::paths::text_of;

/// One option as a source gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name without leading dashes, with dashes between its parts.
    pub name: String,
    /// Values as text; that of a switch is `true` or `false`.
    pub values: Vec<String>,
    /// Line in the file, counted from 1.
    pub line: Option<usize>,
    /// How the source writes the value.
    pub kind: Kind,
}

/// How a source writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As text, whose meaning the option decides.
    Text,
    /// As `true` or `false`.
    Switch,
    /// As a list.
    List,
}

impl Entry {
    pub(crate) fn new(name: impl Into<String>, values: Vec<String>) -> Self {
        Self { name: name.into(), values, line: None, kind: Kind::Text }
    }

    /// Returns the arguments for clap: `--name=value`, or for several values `--name value value`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match self.values.as_slice() {
            [value] => vec![format!("--{}={value}", self.name)],
            values => {
                let mut arguments = vec![format!("--{}", self.name)];
                arguments.extend_from_slice(values);
                arguments
            }
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.values == ["true"]
    }
}

/// Returns which of the arguments that [`super::cli_arguments`] made were typed.
///
/// # Errors
/// A path that is not Unicode, on systems whose paths are not bytes.
pub(crate) fn from_matches(
    matches: &ArgMatches,
    names: &[String],
    switches: &[String],
) -> Result<Vec<Entry>, OptionError> {
    let typed = |id: &str| {
        matches.value_source(id) == Some(ValueSource::CommandLine)
            && matches.get_raw(id).is_some_and(|values| values.len() > 0)
    };
    let mut entries = Vec::new();
    for name in names {
        let id = name.replace('-', "_");
        let negation = format!("no-{name}");
        // `--no-cache` is an option of its own, not a form of `--cache`.
        if switches.contains(name) && typed(&negation) {
            entries.push(Entry::new(name, vec!["false".to_owned()]));
        } else if typed(&id) {
            let values = matches.get_raw(&id).into_iter().flatten();
            let text = |value: &OsStr| {
                let lossy = value.to_string_lossy();
                text_of(value).ok_or_else(|| OptionError::new(name, &lossy, "must be valid UTF-8"))
            };
            entries.push(Entry::new(name, values.map(text).collect::<Result<_, _>>()?));
        }
    }
    Ok(entries)
}

/// Returns the entries of a TOML text. Names may be written with underscores.
///
/// # Errors
/// A message with line and reason.
pub(crate) fn from_toml(text: &str) -> Result<Vec<Entry>, String> {
    from_table(parse_toml(text)?, text)
}

/// Parses a TOML text, keeping the positions of keys and values.
///
/// # Errors
/// A message with line and reason.
pub(crate) fn parse_toml(text: &str) -> Result<DeTable<'_>, String> {
    let table = DeTable::parse(text).map_err(|error| {
        let Some(span) = error.span() else { return one_line(error.message()) };
        let line = line_of(text, span.start);
        let wrong = text.lines().nth(line - 1).and_then(bare_word);
        format!("line {line}: {}", wrong.unwrap_or_else(|| one_line(error.message())))
    })?;
    Ok(table.into_inner())
}

/// Explains what is wrong with a line whose value is not TOML: text without quotes, `True`, or `.5`.
fn bare_word(line: &str) -> Option<String> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.split('#').next()?.trim());
    let known = matches!(value, "true" | "false" | "inf" | "nan");
    let word = value.starts_with(|c: char| c.is_alphabetic() || matches!(c, '/' | '~' | '.'))
        || value.contains("..");
    let plain = value.to_ascii_lowercase();
    if !known && matches!(&*plain, "true" | "false") {
        return Some(format!("{name} = {value}: write {name} = {plain}"));
    }
    if value.starts_with('.') && value.parse::<f64>().is_ok() {
        return Some(format!("{name} = {value}: write {name} = 0{value}"));
    }
    (word && !known && !value.contains(['"', '\''])).then(|| {
        let shown = value.escape_debug();
        format!(
            "{name} = {shown}: text needs quotes ({name} = \"{shown}\"); numbers, true and false have \
             none"
        )
    })
}

/// Returns the line of the byte `at` of `text`, counted from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Returns the entries of a table of a TOML text.
///
/// # Errors
/// A message with line and reason.
pub(crate) fn from_table(table: DeTable, text: &str) -> Result<Vec<Entry>, String> {
    table.iter().map(|(name, value)| from_value(name, value, text)).collect()
}

/// Returns the entry for a key and a value of a TOML text.
///
/// # Errors
/// A message with line and reason.
pub(crate) fn from_value(
    name: &Spanned<DeString>,
    value: &Spanned<DeValue>,
    text: &str,
) -> Result<Entry, String> {
    let line = line_of(text, name.span().start);
    // Whether it is the header of a table, which may have blanks or a quote before the name.
    let header = text[..name.span().start].trim_end_matches([' ', '\t', '"']).ends_with('[');
    let name = name.get_ref().replace('_', "-");
    if header && matches!(value.get_ref(), DeValue::Table(_)) {
        return Err(format!(
            "line {line}: [{name}]: options belong at the top level, without [{name}]"
        ));
    }
    if name.is_empty() || name.starts_with('-') || name.contains(['=', ' ']) {
        return Err(format!("line {line}: `{name}` is not the name of an option"));
    }
    let kind = match value.get_ref() {
        DeValue::Boolean(_) => Kind::Switch,
        DeValue::Array(_) => Kind::List,
        _ => Kind::Text,
    };
    let values = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(scalar).collect(),
        _ => scalar(value).map(|value| vec![value]),
    };
    let values: Vec<String> =
        values.ok_or_else(|| format!("line {line}: {name} takes a value or a list of them"))?;
    Ok(Entry { name, values, line: Some(line), kind })
}

fn scalar(value: &Spanned<DeValue>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Returns the entries of a struct of options.
pub(crate) fn from_serialized(options: &impl serde::Serialize) -> Result<Vec<Entry>, OptionError> {
    let table = toml::Table::try_from(options)
        .map_err(|error| OptionError::new("config", "", one_line(&error.to_string())))?;
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Float(number) => number.to_string(),
        other => other.to_string(),
    };
    let entries = table.iter().map(|(name, value)| match value {
        Value::Array(items) => {
            let values = items.iter().map(text).collect();
            Entry { kind: Kind::List, ..Entry::new(name, values) }
        }
        Value::Boolean(_) => Entry { kind: Kind::Switch, ..Entry::new(name, vec![text(value)]) },
        value => Entry::new(name, vec![text(value)]),
    });
    Ok(entries.collect())
}

/// Joins the lines of a text to one.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
