//! Where the golden reference files are.

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

/// A JSON list of whole numbers.
pub fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}
