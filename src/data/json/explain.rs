//! Explains why a text is not JSON and what to do about it.

use serde_json::Error;
use serde_json::error::Category;

use super::not_finite;
use super::value::Json;
use crate::near::nearest;

/// Returns the message for an error at byte `at` of a text; one line.
pub(super) fn explain(text: &str, at: usize, error: &Error) -> String {
    if let Some(what) = other_file(text) {
        return what.to_owned();
    }
    let message = error.to_string();
    // serde_json appends the position to its messages, which the caller already knows.
    let message = not_finite::restored(message.split(" at line ").next().unwrap_or(&message));
    let message = message.as_str();
    match error.classify() {
        Category::Eof => format!(
            "the file ends early ({message}): it was not written or copied completely; copy it again"
        ),
        Category::Data => data(text, message),
        Category::Syntax | Category::Io => syntax(text, at, message),
    }
}

/// Recognises files that are not annotations at all.
fn other_file(text: &str) -> Option<&'static str> {
    let start = text.trim_start();
    if start.is_empty() {
        Some("the file is empty; copy or write it again")
    } else if start.starts_with("version https://git-lfs") {
        Some("is a Git LFS pointer, not the file itself; `git lfs pull` gets it")
    } else if start.starts_with('<') {
        Some("is HTML or XML, not JSON: perhaps the page of a failed download; download it again")
    } else {
        None
    }
}

/// Explains an error in a text that is JSON, but not the expected data.
fn data(text: &str, message: &str) -> String {
    if message.starts_with("duplicate field `Actions`") {
        return "\"Actions\" occurs twice; merge the two".to_owned();
    }
    if !message.starts_with("missing field `Actions`") {
        return message.to_owned();
    }
    let missing = "the file has no \"Actions\"";
    let Ok(Json::Object(object)) = serde_json::from_str(text) else {
        return missing.to_owned();
    };
    if let Some(near) = nearest("Actions", object.keys()) {
        return format!("{missing}; is {near:?} a misspelling?");
    }
    let keys: Vec<String> = object.keys().take(3).map(|key| format!("{key:?}")).collect();
    match object.keys().count() {
        0 => missing.to_owned(),
        1..=3 => format!("{missing}; it has {}", keys.join(", ")),
        _ => format!("{missing}; it has {} …", keys.join(", ")),
    }
}

fn syntax(text: &str, at: usize, message: &str) -> String {
    let rest = text.get(at..).unwrap_or_default();
    let advice = if message.starts_with("trailing comma") {
        "remove the comma before it".to_owned()
    } else if message.starts_with("trailing characters") {
        return "more text after the end of the JSON; the file must contain one object".to_owned();
    } else if message.starts_with("control character") {
        return "a line break within a string, or another control character; write \\n, or end the \
                string"
            .to_owned();
    } else if message.contains("surrogate") || message.contains("end of hex escape") {
        return "a \\u escape is half of a character, as Python writes it for a file name that is not \
                UTF-8; rename the file"
            .to_owned();
    } else if message.starts_with("expected `,`") && rest.starts_with(['"', '{', '[']) {
        "a comma is missing before it".to_owned()
    } else if let Some(advice) = token(rest) {
        advice
    } else if message.starts_with("key must be a string") {
        "keys need double quotes".to_owned()
    } else {
        return message.to_owned();
    };
    format!("{message}: {advice}")
}

/// Explains a token that does not exist in JSON.
fn token(rest: &str) -> Option<String> {
    let word: String =
        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').take(20).collect();
    let advice = match word.as_str() {
        "None" => "`None` is Python; write null".to_owned(),
        "True" | "False" => format!("`{word}` is Python; write {}", word.to_lowercase()),
        "nan" | "inf" | "infinity" | "undefined" | "NA" | "NULL" | "Null" | "NAN" => {
            format!("`{word}` is not JSON; write null")
        }
        "" => match rest.chars().next()? {
            '\'' | '`' => "JSON needs double quotes (in Python, json.dump writes them)".to_owned(),
            '“' | '”' | '„' | '‘' | '’' => "typographic quotes; JSON needs \"".to_owned(),
            '/' | '#' => "JSON has no comments".to_owned(),
            '\u{feff}' => "a byte-order mark within the text; remove it".to_owned(),
            '\u{a0}' => "a no-break space; use a plain space".to_owned(),
            _ => return None,
        },
        _ => return None,
    };
    Some(advice)
}
