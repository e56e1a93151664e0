//! The TOML form of a schema.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Condition, Fields, SchemaError, SplitSpec};
use crate::data::Window;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaFile {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) ignored_fields: Option<Vec<String>>,
    #[serde(default)]
    pub(super) official: bool,
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
    #[serde(default)]
    pub(super) unknown: Vec<String>,
    pub(super) class: Vec<ClassFile>,
}

/// A class, which can also be written as just its name.
pub(super) struct ClassFile {
    pub(super) name: String,
    pub(super) matches: Option<Condition>,
    pub(super) write: Option<Fields>,
}

impl<'de> Deserialize<'de> for ClassFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A visitor reports what is wrong within the table, unlike an untagged enum.
        deserializer.deserialize_any(ClassVisitor)
    }
}

struct ClassVisitor;

impl<'de> Visitor<'de> for ClassVisitor {
    type Value = ClassFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a class: its name, or { name = …, match = … }")
    }

    fn visit_str<E>(self, name: &str) -> Result<ClassFile, E> {
        Ok(ClassFile { name: name.to_owned(), matches: None, write: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClassFile, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            name: String,
            #[serde(rename = "match")]
            matches: Option<Condition>,
            write: Option<Fields>,
        }
        let Table { name, matches, write } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ClassFile { name, matches, write })
    }
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

/// Creates a schema with a task for each of the given fields, whose values are the classes.
pub(super) fn of_fields(
    name: &str,
    splits: &[SplitSpec],
    tasks: Vec<(String, Vec<String>)>,
) -> SchemaFile {
    let split = splits.iter().map(|split| SplitFile {
        name: split.name.clone(),
        spellings: split.spellings.iter().filter(|s| **s != split.name).cloned().collect(),
        labelled: Some(split.labelled),
    });
    let mut names: Vec<String> = Vec::new();
    let task = tasks.into_iter().map(|(field, classes)| TaskFile {
        name: new_identifier(&field, &mut names),
        title: field.clone(),
        imbalanced: false,
        field: Some(field),
        unknown: vec![String::new()],
        class: classes
            .into_iter()
            .map(|name| ClassFile { name, matches: None, write: None })
            .collect(),
    });
    let mut task: Vec<TaskFile> = task.collect();
    // Class weights and the balanced sampler apply to one task only.
    if let Some(first) = task.first_mut() {
        first.imbalanced = true;
    }
    SchemaFile {
        name: identifier(name),
        title: name.to_owned(),
        ignored_fields: None,
        official: false,
        layout: LayoutFile::default(),
        clips: ClipsFile::default(),
        split: split.collect(),
        task,
        leave_out: Vec::new(),
        default: Vec::new(),
        property: Vec::new(),
    }
}

/// Converts a name to an identifier for files and parameters: lower-case letters, digits and
/// underscores.
fn identifier(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.trim().chars().map(plain).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// Like [`identifier`], but appends a number if the result is in `taken`; adds the result to
/// `taken`.
fn new_identifier(name: &str, taken: &mut Vec<String>) -> String {
    let plain = identifier(name);
    let numbered = (2_usize..).map(|number| format!("{plain}_{number}"));
    let mut all = std::iter::once(plain.clone()).chain(numbered);
    let name = all.find(|name| !taken.contains(name)).expect("numbers do not run out");
    taken.push(name.clone());
    name
}

/// Parses a schema file; `file` is its name in errors.
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
