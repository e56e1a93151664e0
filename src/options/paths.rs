//! Paths in options. Configuration files and checkpoints are UTF-8, but paths need not be: a byte that
//! is not part of a character is written as a zero byte, which no path contains, and two hexadecimal
//! digits. In a file, `"data\u0000ff"` is the folder `data` with the byte ff at its end.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::TypedValueParser;

/// Character that marks an escaped byte.
const ESCAPE: char = '\0';

/// Returns the text that stands for a path; `None` if it is not Unicode and the system's paths are not
/// bytes.
pub(super) fn text_of(path: &OsStr) -> Option<String> {
    if let Some(text) = path.to_str() {
        return Some(text.to_owned());
    }
    #[cfg(unix)]
    {
        let mut text = String::new();
        for chunk in std::os::unix::ffi::OsStrExt::as_bytes(path).utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|byte| format!("{ESCAPE}{byte:02x}")));
        }
        Some(text)
    }
    #[cfg(not(unix))]
    None
}

/// Returns the path that a text stands for.
fn path_of(text: &str) -> Result<OsString, String> {
    let mut parts = text.split(ESCAPE);
    let first = parts.next().expect("splitting gives at least one part");
    let escaped: Vec<&str> = parts.collect();
    if escaped.is_empty() {
        return Ok(first.into());
    }
    #[cfg(unix)]
    {
        let mut bytes = first.as_bytes().to_vec();
        for part in escaped {
            let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(byte.ok_or("a zero byte must be followed by two hexadecimal digits")?);
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes))
    }
    #[cfg(not(unix))]
    Err("a path must not contain a zero byte".to_owned())
}

/// Returns a parser of paths that are not empty.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    path_or_empty().try_map(|path| match path.as_os_str().is_empty() {
        true => Err("must not be empty"),
        false => Ok(path),
    })
}

/// Returns a parser of paths of files. A folder stands for the file `name` in it, as a run's folder does for
/// a checkpoint. `keyword` is not taken for a path.
pub(crate) fn file_or_folder(
    name: &'static str,
    keyword: Option<&'static str>,
) -> impl TypedValueParser<Value = PathBuf> {
    path().try_map(move |path| {
        if keyword.is_some_and(|keyword| path.as_os_str() == keyword) || !path.is_dir() {
            return Ok(path);
        }
        let file = path.join(name);
        if file.is_file() { Ok(file) } else { Err(format!("is a folder without {name}")) }
    })
}

/// Returns a parser of paths that may be empty; an empty one is refused later, with a better message.
pub(crate) fn path_or_empty() -> impl TypedValueParser<Value = PathBuf> {
    clap::builder::OsStringValueParser::new().try_map(|typed| match typed.to_str() {
        // From a file, or typed.
        Some(text) => path_of(text).map(PathBuf::from),
        None => Ok(PathBuf::from(typed)),
    })
}

/// Serialises paths in configuration files: `#[serde(with = "options::path_text")]`.
pub(crate) mod path_text {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let text = super::text_of(path.as_os_str());
        let text = text.ok_or_else(|| ser::Error::custom("a path must be valid Unicode"))?;
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::path_of(&text).map(PathBuf::from).map_err(de::Error::custom)
    }
}

/// Like [`path_text`], for options that have no value by default.
pub(crate) mod optional_path_text {
    use std::path::PathBuf;

    use serde::{Deserializer, Serializer};

    use super::path_text;

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => path_text::serialize(path, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        path_text::deserialize(deserializer).map(Some)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn every_path_survives_as_text() {
        for (bytes, text) in [
            (&b"data/%20 \\x41"[..], "data/%20 \\x41"),
            (b"", ""),
            (b"a\xff", "a\0ff"),
            (b"\xc3\x28/\xe2\x82\xac\xfe\xff", "\0c3(/\u{20ac}\0fe\0ff"),
        ] {
            let path = OsStr::from_bytes(bytes);
            assert_eq!(text_of(path).as_deref(), Some(text));
            assert_eq!(path_of(text).as_deref(), Ok(path));
        }
        for text in ["\0", "a\0f", "a\0fg", "\0\u{20ac}"] {
            assert!(path_of(text).is_err(), "{text:?}");
        }
    }
}
