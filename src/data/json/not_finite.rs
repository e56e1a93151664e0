//! NaN and infinity in JSON, which Python's json module writes and reads although they are not
//! JSON.

use std::borrow::Cow;

/// The tokens as Python writes them.
const TOKENS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Placeholders for the tokens in [`Replaced::text`]: strings that no annotation contains.
const PLACEHOLDERS: [&str; 3] = ["\0NaN", "\0Infinity", "\0-Infinity"];

/// A text in which NaN and infinity are replaced by strings.
pub(super) struct Replaced<'a> {
    pub text: Cow<'a, str>,
    /// Offset of each token in the original text, and its spelling.
    pub places: Vec<(usize, &'static str)>,
    /// Offset of each placeholder's end in the new text, and the number of bytes by which the text
    /// has grown up to there.
    ends: Vec<(usize, usize)>,
}

impl Replaced<'_> {
    /// Maps an offset in the new text to the original one; within a placeholder, to the start of
    /// its token.
    pub(super) fn original(&self, offset: usize) -> usize {
        let before = self.ends.partition_point(|(end, _)| *end <= offset);
        let offset = offset - before.checked_sub(1).map_or(0, |k| self.ends[k].1);
        self.places.get(before).map_or(offset, |(next, _)| offset.min(*next))
    }
}

/// Replaces NaN and infinity wherever a value is allowed.
pub(super) fn replace(text: &str) -> Replaced<'_> {
    let mut replaced = Replaced { text: text.into(), places: Vec::new(), ends: Vec::new() };
    let mut out = String::new();
    let mut copied = 0;
    for (at, token) in tokens(text) {
        out.push_str(&text[copied..at]);
        copied = at + token.len();
        // A zero byte must be escaped in JSON.
        out.push_str(&format!("\"\\u0000{token}\""));
        replaced.places.push((at, token));
        replaced.ends.push((out.len(), out.len() - copied));
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        replaced.text = out.into();
    }
    replaced
}

/// Returns the token that a placeholder stands for; `None` for any other string.
pub(super) fn token_of(text: &str) -> Option<&'static str> {
    PLACEHOLDERS.iter().position(|placeholder| *placeholder == text).map(|k| TOKENS[k])
}

/// Replaces the placeholders in a parser's message by the original tokens.
pub(super) fn restored(message: &str) -> String {
    PLACEHOLDERS.iter().zip(TOKENS).fold(message.to_owned(), |message, (placeholder, token)| {
        message.replace(&format!("string {placeholder:?}"), token)
    })
}

fn tokens(text: &str) -> Vec<(usize, &'static str)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
            }
            b'N' | b'I' | b'-' => {
                let token = TOKENS.into_iter().find(|t| bytes[at..].starts_with(t.as_bytes()));
                if let Some(token) = token.filter(|token| stands_alone(bytes, at, token.len())) {
                    found.push((at, token));
                    at += token.len();
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Checks whether a token is a whole word and not a key.
fn stands_alone(bytes: &[u8], at: usize, length: usize) -> bool {
    let part =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    let rest = &bytes[at + length..];
    let next = rest.iter().find(|byte| !byte.is_ascii_whitespace());
    !bytes[..at].last().is_some_and(part) && !rest.first().is_some_and(part) && next != Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_replaced_and_nothing_else() {
        let text = r#"{"NaN": [NaN,-Infinity], "a\"NaN": Infinity, NaN : 1, "b": xNaN, "c": NaN"#;
        let replaced = replace(text);
        let expected = r#"{"NaN": ["\u0000NaN","\u0000-Infinity"], "a\"NaN": "\u0000Infinity", NaN : 1, "b": xNaN, "c": "\u0000NaN""#;
        assert_eq!(replaced.text, expected);
        let spellings: Vec<_> =
            replaced.places.iter().map(|(at, token)| &text[*at..][..token.len()]).collect();
        assert_eq!(spellings, ["NaN", "-Infinity", "Infinity", "NaN"]);
        for word in ["{", "], ", "xNaN", "\"c\""] {
            let [old, new] = [text, expected].map(|text| text.rfind(word).unwrap());
            assert!(replaced.original(new).abs_diff(old) <= 1, "{word}");
        }
        let (old, new) = (text.find("xNaN").unwrap(), expected.find("xNaN").unwrap());
        assert_eq!(replaced.original(new), old);
        // At and within the first placeholder.
        let first = expected.find("\"\\u0000NaN").unwrap();
        for offset in first..first + 11 {
            assert_eq!(replaced.original(offset), text.find("[NaN").unwrap() + 1, "{offset}");
        }
        assert_eq!(replaced.original(first + 11), text.find(",-").unwrap());
        let plain = "{\"a\": -1, \"b\": \"\\";
        assert!(matches!(replace(plain).text, Cow::Borrowed(_)));
        assert_eq!(token_of("\0-Infinity"), Some("-Infinity"));
        assert_eq!(token_of("NaN"), None);
    }
}
