//! The raw form of `annotations.json`: tolerant of errors in single entries, strict about the whole.

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

/// The file. Actions stay untyped, so that an error in an entry affects only its action.
#[derive(Deserialize)]
pub(super) struct RawFile {
    #[serde(rename = "Set")]
    pub(super) set: Option<Value>,
    #[serde(rename = "Number of actions")]
    pub(super) count: Option<Value>,
    #[serde(rename = "Actions")]
    pub(super) actions: Entries,
}

/// Key-value pairs in file order, including repeated keys (a map would drop the first).
pub(super) struct Entries(pub(super) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of actions by id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Entries(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Describes a value in messages.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("{value} without quotes"),
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
