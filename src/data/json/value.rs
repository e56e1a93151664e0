//! JSON values that keep what serde_json's values lose: repeated keys, NaN and infinity.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::not_finite;

/// A JSON value, including NaN and infinity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    /// NaN or infinity, as spelled.
    NotFinite(&'static str),
    String(String),
    Array(Vec<Json>),
    Object(Object),
}

/// Key-value pairs in file order, including repeated keys (a map would drop the earlier ones).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Object(pub(in crate::data) Vec<(String, Json)>);

impl Object {
    /// Returns the value of a key, the last one if the key is repeated.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.all(key).last()
    }

    /// Iterates over all values of a key.
    pub(crate) fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a Json> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| value)
    }

    /// Iterates over the keys in file order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }
}

impl Json {
    pub(crate) fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    pub(crate) fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    /// Returns whether this means "no value": null, or NaN, which pandas uses for missing values.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Null | Self::NotFinite(_))
    }
}

/// Keeps the last of repeated keys; NaN and infinity become null.
impl From<Json> for serde_json::Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null | Json::NotFinite(_) => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => Self::Number(number),
            Json::String(text) => Self::String(text),
            Json::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            Json::Object(Object(pairs)) => {
                Self::Object(pairs.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Number::from_f64(value).map_or(Json::NotFinite("NaN"), Json::Number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(match not_finite::token_of(text) {
                    Some(spelling) => Json::NotFinite(spelling),
                    None => Json::String(text.to_owned()),
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Json::Array(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Json, A::Error> {
                pairs(map).map(Json::Object)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of actions by id")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                pairs(map)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn pairs<'de, A: MapAccess<'de>>(mut map: A) -> Result<Object, A::Error> {
    let mut pairs = Vec::new();
    while let Some(pair) = map.next_entry()? {
        pairs.push(pair);
    }
    Ok(Object(pairs))
}

/// Describes a value for messages.
pub(in super::super) fn describe(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => format!("{value} without quotes"),
        Json::Number(number) => format!("{number} without quotes"),
        Json::NotFinite(spelling) => (*spelling).to_owned(),
        Json::String(text) => format!("{text:?}"),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "an object".to_owned(),
    }
}
