//! The golden reference files. A file that lacks a field, or holds no cases, fails the test.

use std::path::PathBuf;

use serde_json::Value;

/// One golden file, from the folder in `POLYVIEW_REFERENCE` or from `tests/reference`.
pub fn load(name: &str) -> Value {
    let dir = std::env::var_os("POLYVIEW_REFERENCE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference"),
        PathBuf::from,
    );
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A JSON list of whole numbers: a shape, counts, labels.
pub fn numbers(value: &Value) -> Vec<usize> {
    list(value).iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// All numbers of a nested JSON list, in order; a single number is a list of one.
pub fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap_or_else(|| panic!("{number} is no number"))],
    }
}

/// [`floats`] in f32.
pub fn floats32(value: &Value) -> Vec<f32> {
    floats(value).into_iter().map(|v| v as f32).collect()
}

/// A JSON list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}
