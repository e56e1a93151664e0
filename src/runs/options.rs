//! Options in which runs differ.

use serde::Serialize;
use toml::Value;

use super::Run;
use crate::config::Config;
use crate::options::{RESUME_MAY_CHANGE, member_of};

/// Options that may change when a run is resumed but are compared nevertheless, because results may depend
/// on them.
const SHOWN: [&str; 3] = ["dataset-root", "gradient-checkpointing", "lanes"];

/// An option that does not have the same value in all runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DifferingOption {
    /// Name of the option.
    pub option: String,
    /// Value in each run; `None` if it has none there.
    pub values: Vec<Option<String>>,
}

/// Returns the options that differ, sorted by name. Locations of files, devices and other options that do
/// not change results are left out.
pub(super) fn differing(runs: &[Run]) -> Vec<DifferingOption> {
    let left_out = member_of::<Config>(RESUME_MAY_CHANGE);
    let mut names: Vec<&String> = runs.iter().flat_map(|run| run.options.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| SHOWN.contains(&name.as_str()) || !left_out.contains(name));
    let values =
        |name: &String| -> Vec<_> { runs.iter().map(|run| run.options.get(name)).collect() };
    let differs = |name: &&String| values(name).windows(2).any(|pair| pair[0] != pair[1]);
    names
        .into_iter()
        .filter(differs)
        .map(|name| DifferingOption {
            option: name.clone(),
            values: values(name)
                .into_iter()
                .map(|value| value.map(text).filter(|text| !text.is_empty()))
                .collect(),
        })
        .collect()
}

/// Formats a value as it is typed on a command line.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
