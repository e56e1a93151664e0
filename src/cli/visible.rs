//! Escapes control characters in output: names come from files, and must neither control the terminal
//! nor reverse the direction of the text that follows them.

use std::borrow::Cow;

use crate::text::turns;

/// Escapes control characters in text for people, except for tabs and newlines.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !matches!(c, '\n' | '\t'), |c| c.escape_default().to_string())
}

/// Escapes control characters, including newlines, in a single line or a name.
pub(super) fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\t', |c| c.escape_default().to_string())
}

/// Escapes control characters in JSON, whose strings may contain those beyond ASCII unescaped.
pub(super) fn in_json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n', |c| format!("\\u{:04x}", u32::from(c)))
}

fn escaped(
    text: &str,
    which: impl Fn(char) -> bool,
    escape: impl Fn(char) -> String,
) -> Cow<'_, str> {
    let controls = |c: char| (c.is_control() || turns(c)) && which(c);
    if !text.contains(controls) {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if controls(c) { out.push_str(&escape(c)) } else { out.push(c) }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_json() {
        let text = serde_json::to_string_pretty(&["a\u{92}b", "c\u{7f}\t\n\u{1b}", "d"]).unwrap();
        let shown = in_json(&text);
        assert!(shown.contains("\"a\\u0092b\"") && shown.contains("c\\u007f\\t\\n"), "{shown}");
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'));
        let read: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, ["a\u{92}b", "c\u{7f}\t\n\u{1b}", "d"]);
    }

    #[test]
    fn newlines_are_kept_in_text_and_not_in_names() {
        assert_eq!(visible("a\tb\nc\x1b[31m"), "a\tb\nc\\u{1b}[31m");
        assert_eq!(visible_line("a\nb"), "a\\nb");
    }

    #[test]
    fn nothing_reverses_the_direction_of_a_line() {
        for c in "\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}".chars() {
            assert_eq!(visible(&format!("a{c}b")), format!("a\\u{{{:x}}}b", u32::from(c)));
            let shown = in_json(&format!("\"{c}\"")).into_owned();
            assert!(shown.is_ascii(), "{shown}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), c.to_string());
        }
        // Right-to-left letters, and a joiner within a word, are kept.
        assert_eq!(visible("\u{5d0}\u{200d}"), "\u{5d0}\u{200d}");
    }
}
