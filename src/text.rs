//! Decoding text files as common programs write them: UTF-8 with or without a byte-order mark, or UTF-16.

use std::borrow::Cow;

/// Whether a character sets the writing direction of text: U+202E, for example, reverses the text after it.
pub(crate) fn turns(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// A file's text and how it was stored.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    /// The text, without a byte-order mark.
    pub text: Cow<'a, str>,
    pub encoding: Encoding,
}

/// Encoding of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// UTF-8 without a byte-order mark.
    Utf8,
    /// UTF-8 with a byte-order mark.
    Utf8Marked,
    /// UTF-16 of either byte order, with or without a mark.
    Utf16,
}

/// Why a file is not a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub(crate) struct NotText {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what to do about it.
    pub reason: String,
}

impl NotText {
    fn at(before: &str, reason: impl Into<String>) -> Self {
        let (line, column) = position(before, before.len());
        Self { line, column, reason: reason.into() }
    }

    fn whole(reason: &str) -> Self {
        Self::at("", reason)
    }
}

/// Returns line and column (in characters) of a byte of `text`, each counted from 1. An offset past the
/// end means the end.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    // Continuation bytes do not count.
    let column = 1 + before[start..].iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    (line, column)
}

/// Decodes the text in `bytes`. UTF-16 without a byte-order mark is recognised by the zero byte of its
/// first character, so the text must begin with an ASCII character, as JSON and TOML do.
///
/// # Errors
/// [`NotText`] if the encoding is not supported or would have to be guessed.
pub(crate) fn decode(bytes: &[u8]) -> Result<Text<'_>, NotText> {
    match bytes {
        [0x1f, 0x8b, ..] => return Err(NotText::whole("is compressed with gzip; unpack it")),
        [b'P', b'K', 3, 4, ..] => return Err(NotText::whole("is a zip archive; unpack it")),
        [_, ..] if bytes.iter().all(|byte| *byte == 0) => {
            return Err(NotText::whole(
                "contains nothing but zero bytes, as after a crash or an interrupted download; copy \
                 it again",
            ));
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => {
            return Err(NotText::whole("is a video, not a text file"));
        }
        [0xff, 0xfe, 0, 0, ..]
        | [0, 0, 0xfe, 0xff, ..]
        | [1..=255, 0, 0, 0, ..]
        | [0, 0, 0, 1..=255, ..] => {
            return Err(NotText::whole("is saved as UTF-32; save it as UTF-8"));
        }
        [0xff, 0xfe, rest @ ..] => return utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return utf16(rest, u16::from_be_bytes),
        [1..=255, 0, ..] => return utf16(bytes, u16::from_le_bytes),
        [0, 1..=255, ..] => return utf16(bytes, u16::from_be_bytes),
        _ => {}
    }
    let (rest, encoding) = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => (rest, Encoding::Utf8Marked),
        None => (bytes, Encoding::Utf8),
    };
    let text = std::str::from_utf8(rest).map_err(|error| not_utf8(rest, error.valid_up_to()))?;
    if let Some(zero) = text.find('\0') {
        return Err(NotText::at(
            &text[..zero],
            "zero bytes from here on: damaged, or UTF-16 that was appended to UTF-8 (`>>` in \
             PowerShell does that); write the file again as UTF-8",
        ));
    }
    Ok(Text { text: text.into(), encoding })
}

fn not_utf8(bytes: &[u8], valid: usize) -> NotText {
    let (before, rest) = bytes.split_at(valid);
    let before = std::str::from_utf8(before).expect("`valid` ends the valid part");
    let reason = match rest.first() {
        Some(byte) => format!(
            "the byte 0x{byte:02X} is not UTF-8 (it may be Windows-1252 or Latin-1); save the file as \
             UTF-8"
        ),
        None => "ends within a character; copy it again".to_owned(),
    };
    NotText::at(before, reason)
}

fn utf16<'a>(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Text<'a>, NotText> {
    let (pairs, rest) = bytes.as_chunks();
    let mut text = String::with_capacity(bytes.len());
    for character in char::decode_utf16(pairs.iter().copied().map(unit)) {
        match character {
            Ok(character) => text.push(character),
            Err(_) => {
                let reason = "is saved as UTF-16 and damaged here; save it as UTF-8";
                return Err(NotText::at(&text, reason));
            }
        }
    }
    if !rest.is_empty() {
        let reason = "is saved as UTF-16 and ends within a character; save it as UTF-8";
        return Err(NotText::at(&text, reason));
    }
    Ok(Text { text: text.into(), encoding: Encoding::Utf16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, mark: bool, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    #[test]
    fn utf16_and_marks_are_read() {
        let text = "{\"é\": \"😀\"}\n";
        for mark in [true, false] {
            for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
                let stored = utf16(text, mark, bytes);
                let found = decode(&stored).unwrap();
                assert_eq!((&*found.text, found.encoding), (text, Encoding::Utf16));
            }
        }
        let marked = format!("\u{feff}{text}");
        let found = decode(marked.as_bytes()).unwrap();
        assert_eq!((&*found.text, found.encoding), (text, Encoding::Utf8Marked));
        assert_eq!(decode(text.as_bytes()).unwrap().encoding, Encoding::Utf8);
        assert_eq!(decode(b"").unwrap().text, "");
    }

    #[test]
    fn files_that_are_not_text_are_reported_with_the_position() {
        let cut = utf16("{}", true, u16::to_le_bytes);
        let cases: [(&[u8], (usize, usize), &str); 9] = [
            (b"{\n\"\xc3\xa9\xe9\": 1}", (2, 3), "byte 0xE9 is not UTF-8"),
            (&cut[..5], (1, 2), "ends within a character"),
            (b"\xff\xfe{\0\0\xd8}\0", (1, 2), "damaged here"),
            (b"{}\n{\0}\0", (2, 2), "appended to UTF-8"),
            (b"\0\0\0\0", (1, 1), "nothing but zero bytes"),
            (b"\xff\xfe\0\0{\0\0\0", (1, 1), "UTF-32"),
            (b"{\0\0\0}\0\0\0", (1, 1), "UTF-32"),
            (b"\x1f\x8b\x08\0", (1, 1), "gzip"),
            (b"PK\x03\x04", (1, 1), "zip"),
        ];
        for (bytes, place, reason) in cases {
            let error = decode(bytes).unwrap_err();
            assert_eq!((error.line, error.column), place, "{error}");
            assert!(error.reason.contains(reason), "{error}");
        }
    }
}
