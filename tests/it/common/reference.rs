//! The golden reference files. A file that lacks a field, or a list without entries, fails the
//! test.

use std::path::PathBuf;

use serde_json::{Map, Value};

/// Reads a golden file from the folder in `POLYVIEW_REFERENCE`, or from `tests/reference` if it is not
/// there.
pub fn load(name: &str) -> Value {
    let given = std::env::var_os("POLYVIEW_REFERENCE").map(|dir| PathBuf::from(dir).join(name));
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name);
    let path = given.filter(|path| path.exists()).unwrap_or(own);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns the entries of a field that holds a list.
pub fn entries<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let entries = list(field(value, key));
    assert!(!entries.is_empty(), "the reference has no {key}");
    entries
}

/// Returns the entries of a field that holds an object.
pub fn named<'a>(value: &'a Value, key: &str) -> &'a Map<String, Value> {
    let entries = field(value, key).as_object().unwrap_or_else(|| panic!("{key} is not an object"));
    assert!(!entries.is_empty(), "the reference has no {key}");
    entries
}

/// Returns a field that must be present but may be null.
pub fn field<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or_else(|| panic!("the reference lacks {key:?} in {}", start(value)))
}

/// Returns a field that must be present, with null as `None`.
pub fn nullable<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    Some(field(value, key)).filter(|value| !value.is_null())
}

/// Returns a field that holds a string.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    field(value, key)
        .as_str()
        .unwrap_or_else(|| panic!("{key} is not a string in {}", start(value)))
}

/// Returns a field that holds a number.
pub fn number(value: &Value, key: &str) -> f64 {
    field(value, key)
        .as_f64()
        .unwrap_or_else(|| panic!("{key} is not a number in {}", start(value)))
}

/// Returns a field that holds a whole number ≥ 0.
pub fn count(value: &Value, key: &str) -> usize {
    let number = field(value, key).as_u64();
    number.unwrap_or_else(|| panic!("{key} is not a whole number in {}", start(value))) as usize
}

/// Returns the items of a list of whole numbers: a shape, counts, labels.
pub fn counts(value: &Value) -> Vec<usize> {
    let whole = |n: &Value| n.as_u64().unwrap_or_else(|| panic!("{n} is not a whole number"));
    list(value).iter().map(|n| whole(n) as usize).collect()
}

/// Returns the shape in a field, which must have `D` dimensions.
pub fn shape<const D: usize>(value: &Value, key: &str) -> [usize; D] {
    let shape = counts(field(value, key));
    shape.try_into().unwrap_or_else(|shape| panic!("{key} is {shape:?}, not {D} dimensions"))
}

/// Returns all numbers of a nested list, in order; a single number is a list of one.
pub fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap_or_else(|| panic!("{number} is not a number"))],
    }
}

/// Like [`floats`], in f32.
pub fn floats32(value: &Value) -> Vec<f32> {
    floats(value).into_iter().map(|v| v as f32).collect()
}

/// Returns the items of a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{} is not a list", start(value)))
}

/// Returns the beginning of a value's text, for messages.
fn start(value: &Value) -> String {
    let text: String = value.to_string().chars().take(200).collect();
    text + "…"
}
