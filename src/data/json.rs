//! Reads JSON as it is written in practice: tolerates deviations that can be read without guessing
//! (UTF-16, NaN as written by Python), and explains errors and how to fix them.

mod explain;
mod not_finite;
mod value;

use std::fmt;

use serde::Deserialize;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

use crate::text::{Encoding, decode, position};
use crate::units::plural;
pub(crate) use value::Json;
pub(super) use value::{Object, describe};

/// The content of a file, and in which ways it deviates from plain JSON.
#[derive(Debug)]
pub(crate) struct Parsed<T> {
    pub value: T,
    pub oddities: Vec<Oddity>,
}

/// A deviation that other programs may refuse, in a file that was read nevertheless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// The file begins with a byte-order mark.
    Marked,
    /// The file is saved as UTF-16.
    Utf16,
    /// NaN or infinity occur as values.
    NotFinite {
        /// Number of occurrences.
        count: usize,
        /// Spelling of the first one.
        first: &'static str,
        /// Line of the first one, counted from 1.
        line: usize,
        /// Column of the first one, counted from 1.
        column: usize,
    },
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marked => f.write_str(
                "begins with a byte-order mark (BOM), which Python's json refuses; save it as UTF-8 \
                 without BOM",
            ),
            Self::Utf16 => f.write_str(
                "is saved as UTF-16, as PowerShell's `>` does; it was read, but other programs \
                 expect UTF-8: save it as UTF-8",
            ),
            Self::NotFinite { count, first, line, column } => {
                write!(f, "line {line}, column {column}: {first} is not JSON")?;
                if *count > 1 {
                    write!(f, " (also in {})", plural(count - 1, "more place"))?;
                }
                f.write_str(
                    "; it was read as Python's json reads it: write null, or \"\" where a string belongs",
                )
            }
        }
    }
}

/// Describes why a file is not JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub(crate) struct JsonError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What was found and what to do.
    pub reason: String,
}

/// Parses a JSON file that is stored as UTF-8 (with or without a byte-order mark) or UTF-16. NaN
/// and infinity are accepted as values, as by Python's json module.
///
/// # Errors
/// [`JsonError`].
pub(crate) fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<Parsed<T>, JsonError> {
    let decoded = decode(bytes).map_err(|e| JsonError {
        line: e.line,
        column: e.column,
        reason: e.reason,
    })?;
    let text = &*decoded.text;
    let replaced = not_finite::replace(text);
    let value = serde_json::from_str(&replaced.text).map_err(|error| {
        let mut at = replaced.original(offset(&replaced.text, &error));
        if error.to_string().starts_with("expected ident") {
            // The parser mistook the word's first letters for the start of true, false or null.
            let before = text.as_bytes()[..at].iter();
            at -= before.rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        }
        let (line, column) = position(text, at);
        JsonError { line, column, reason: explain::explain(text, at, &error) }
    })?;
    let mut oddities = Vec::new();
    match decoded.encoding {
        Encoding::Utf8 => {}
        Encoding::Utf8Marked => oddities.push(Oddity::Marked),
        Encoding::Utf16 => oddities.push(Oddity::Utf16),
    }
    if let Some(&(at, first)) = replaced.places.first() {
        let (line, column) = position(text, at);
        oddities.push(Oddity::NotFinite { count: replaced.places.len(), first, line, column });
    }
    Ok(Parsed { value, oddities })
}

/// Returns the offset of the character to which an error refers. serde_json counts lines, and bytes
/// within a line, from 1.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    let start = match error.line().checked_sub(2) {
        Some(before) => newlines.map(|(at, _)| at + 1).nth(before).unwrap_or(text.len()),
        None => 0,
    };
    (start + error.column().saturating_sub(1)).min(text.len())
}

/// An annotation file. Actions stay untyped, so that an error in an entry affects only its action.
pub(super) struct RawFile {
    /// "Set".
    pub(super) set: Option<Json>,
    /// "Number of actions".
    pub(super) count: Option<Json>,
    /// "Actions": the entries in file order, including those of repeated ids.
    pub(super) actions: Object,
}

impl<'de> Deserialize<'de> for RawFile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct File;
        impl<'de> Visitor<'de> for File {
            type Value = RawFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with \"Actions\"")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFile, A::Error> {
                let (mut set, mut count, mut actions) = (None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "Set" => set = Some(map.next_value()?),
                        "Number of actions" => count = Some(map.next_value()?),
                        "Actions" if actions.is_some() => {
                            return Err(A::Error::duplicate_field("Actions"));
                        }
                        "Actions" => actions = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let actions = actions.ok_or_else(|| A::Error::missing_field("Actions"))?;
                Ok(RawFile { set, count, actions })
            }
        }
        deserializer.deserialize_map(File)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do_and_where() {
        let cases = [
            ("", (1, 1), "the file is empty"),
            (" \n ", (2, 1), "the file is empty"),
            ("{\"Actions\": {\"0\": {", (1, 19), "the file ends early"),
            ("{\n \"Actions\": {\"0\": {},}\n}", (2, 22), "remove the comma"),
            ("{\"Actions\": {\"0\": [1, 2,]}}", (1, 26), "remove the comma"),
            ("{'Actions': {}}", (1, 2), "double quotes"),
            ("{\"Actions\": {\"0\": None}}", (1, 19), "`None` is Python; write null"),
            ("{\"Actions\": {\"0\": [True]}}", (1, 20), "`True` is Python; write true"),
            ("{\"Actions\": {\"0\": nan}}", (1, 19), "`nan` is not JSON; write null"),
            ("{Actions: {}}", (1, 2), "double quotes"),
            ("{\"Actions\": // all\n{}}", (1, 13), "no comments"),
            ("{\"Actions\": {} \"Set\": 1}", (1, 16), "a comma is missing"),
            ("{\"Actions\": {\"é\": “x”}}", (1, 19), "typographic quotes"),
            ("{\"Actions\": {\"0\": \"a\nb\"}}", (2, 1), "line break within a string"),
            ("{\"Actions\": {}}\n{\"Actions\": {}}", (2, 1), "after the end"),
            ("{\"Actions\": {\"0\": 1e999}}", (1, 24), "number out of range"),
            ("{\"Actions\": {}, \"Actions\": {}}", (1, 25), "\"Actions\" occurs twice"),
            ("{\"actions\": {}}", (1, 15), "no \"Actions\"; is \"actions\" a misspelling?"),
            ("{\"0\": {}, \"1\": {}}", (1, 19), "no \"Actions\"; it has \"0\", \"1\""),
            ("[]", (1, 1), "an object with \"Actions\""),
            (
                "{\"Set\":\"train\",\"Actions\": NaN}",
                (1, 27),
                "invalid type: NaN, expected an object of actions by id",
            ),
            ("{\"Actions\": -Infinity, \"Set\": 1}", (1, 13), "invalid type: -Infinity, expected"),
            ("<html>", (1, 1), "HTML"),
            ("version https://git-lfs.github.com/spec/v1\n", (1, 1), "git lfs pull"),
            ("{\"Actions\": {\"0\": \"\\ud800\"}}", (1, 26), "half of a character"),
        ];
        for (text, place, reason) in cases {
            let error = parse::<RawFile>(text.as_bytes()).map(|_| ()).expect_err(text);
            assert!(error.reason.contains(reason), "{text:?}: {error}");
            assert_eq!(error.line, place.0, "{text:?}: {error}");
            assert!(error.column.abs_diff(place.1) <= 1, "{text:?}: {error}");
        }
        // A placeholder does not shift the position of what follows.
        let error = parse::<Json>(b"[NaN, -Infinity, x]").unwrap_err();
        assert_eq!((error.line, error.column), (1, 18));
    }

    #[test]
    fn json_written_by_python_is_read_with_a_remark() {
        let parsed = parse::<Json>(b"\xef\xbb\xbf{\n\"a\": [NaN, -Infinity]}").unwrap();
        let not_finite = Oddity::NotFinite { count: 2, first: "NaN", line: 2, column: 7 };
        assert!(not_finite.to_string().contains(" (also in 1 more place);"), "{not_finite}");
        assert_eq!(parsed.oddities, [Oddity::Marked, not_finite]);
        let object = parsed.value.as_object().unwrap();
        let Some(Json::Array(values)) = object.get("a") else { panic!("{object:?}") };
        assert_eq!(*values, [Json::NotFinite("NaN"), Json::NotFinite("-Infinity")]);
        let value = serde_json::Value::from(parsed.value);
        assert_eq!(value, serde_json::json!({"a": [null, null]}));
    }
}
