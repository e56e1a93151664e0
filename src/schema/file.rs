//! The TOML form of a schema.

use serde::Deserialize;

use super::{Condition, Fields, SchemaError};
use crate::data::Window;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaFile {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) ignored_fields: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layout: LayoutFile,
    #[serde(default)]
    pub(super) clips: ClipsFile,
    pub(super) split: Vec<SplitFile>,
    pub(super) task: Vec<TaskFile>,
    #[serde(default)]
    pub(super) leave_out: Vec<LeaveOutFile>,
    #[serde(default)]
    pub(super) default: Vec<DefaultFile>,
    #[serde(default)]
    pub(super) property: Vec<PropertyFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct LayoutFile {
    pub(super) folder: Option<String>,
    #[serde(default)]
    pub(super) url_prefixes: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct ClipsFile {
    pub(super) window: Option<Window>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SplitFile {
    pub(super) name: String,
    #[serde(default)]
    pub(super) spellings: Vec<String>,
    pub(super) labelled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskFile {
    pub(super) name: String,
    pub(super) title: String,
    #[serde(default)]
    pub(super) imbalanced: bool,
    pub(super) field: Option<String>,
    pub(super) class: Vec<ClassFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClassFile {
    pub(super) name: String,
    #[serde(rename = "match")]
    pub(super) matches: Option<Condition>,
    pub(super) write: Option<Fields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaveOutFile {
    pub(super) reason: String,
    pub(super) when: Condition,
    #[serde(default)]
    pub(super) unless: Condition,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DefaultFile {
    pub(super) field: String,
    pub(super) from: Vec<String>,
    pub(super) to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PropertyFile {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) field: String,
    pub(super) values: Vec<Vec<String>>,
    pub(super) embedding: usize,
    #[serde(default)]
    pub(super) input: bool,
    #[serde(default)]
    pub(super) auxiliary: bool,
}

/// Parses a schema file; `file` is its name for errors.
pub(super) fn parse(text: &str, file: &str) -> Result<SchemaFile, SchemaError> {
    toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        let before = &text.as_bytes()[..at.min(text.len())];
        SchemaError::Toml {
            file: file.to_owned(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            reason: e.message().lines().collect::<Vec<_>>().join(" "),
        }
    })
}
