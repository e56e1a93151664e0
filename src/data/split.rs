//! A split's actions, divided by the schema's label rules into usable ones and others.

use std::path::PathBuf;

use super::problem::{Problem, ProblemKind};
use crate::schema::{Fields, Labelled, Schema};

/// A split's annotations. Every action in the file is either in `actions` or in `left_out`.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The split's name in the schema.
    pub name: String,
    /// The split's folder.
    pub dir: PathBuf,
    /// Whether the split's actions have labels.
    pub labelled: bool,
    /// The usable actions, in file order.
    pub actions: Vec<Action>,
    /// The actions that cannot be used, in file order.
    pub left_out: Vec<LeftOut>,
    /// Errors and warnings, in file order.
    pub problems: Vec<Problem>,
    /// The annotation file, if it lists the actions of this split only.
    pub file: Option<PathBuf>,
}

/// One event with its clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Key of the action in the annotation file.
    pub id: String,
    /// One class index per task, `None` where it is unknown; no list in a split without labels.
    pub labels: Option<Vec<Option<usize>>>,
    /// The annotated values of the fields that the schema reads.
    pub fields: Fields,
    /// The clips, in file order; at least one.
    pub views: Vec<View>,
}

/// An action that is not used, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    /// Key of the action in the annotation file.
    pub id: String,
    /// The reason given by the label rule, or what is wrong with the entry.
    pub reason: String,
    /// The clips of the action.
    pub views: Vec<View>,
}

/// One clip of an action.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The Url as annotated.
    pub url: String,
    /// Path inside the split's folder, usually without an extension; it may be absolute in a table.
    pub path: PathBuf,
    /// The camera, if annotated.
    pub camera: Option<String>,
    /// Playback speed of the replay, if annotated; 1 is real time.
    pub replay_speed: Option<f64>,
    /// Milliseconds since the start of the match recording, if annotated.
    pub timestamp: Option<i64>,
}

impl Split {
    /// Creates a split without actions.
    pub(super) fn new(name: &str, dir: PathBuf, labelled: bool) -> Self {
        Self {
            name: name.to_owned(),
            dir,
            labelled,
            actions: Vec::new(),
            left_out: Vec::new(),
            problems: Vec::new(),
            file: None,
        }
    }

    /// Adds an action that cannot be used.
    pub(super) fn leave_out(&mut self, id: &str, reason: impl Into<String>, views: Vec<View>) {
        self.left_out.push(LeftOut { id: id.to_owned(), reason: reason.into(), views });
    }

    /// Adds an action with the given annotated fields, either as usable or as left out by the label
    /// rules.
    pub(super) fn add(&mut self, schema: &Schema, id: &str, fields: Fields, views: Vec<View>) {
        for property in &schema.properties {
            let value = fields.get(&property.field).map_or("", String::as_str);
            if !property.knows(value) {
                let message = format!("{} {value:?} is not listed in the schema", property.field);
                let problem = Problem::of_action(ProblemKind::UnlistedValue, id, message);
                self.problems.push(problem);
            }
        }
        let labels = match self.labelled {
            false => None,
            true => match schema.label(&fields) {
                Labelled::Labels(labels) => Some(labels),
                Labelled::LeftOut { reason } => return self.leave_out(id, reason, views),
                Labelled::Unknown(values) => {
                    for unknown in values {
                        let (task, field, value) = (unknown.task, unknown.field, unknown.value);
                        let message = format!("{field} {value:?} matches no class of {task}");
                        let problem = Problem::of_action(ProblemKind::UnknownValue, id, message);
                        self.problems.push(problem);
                    }
                    return self.leave_out(id, "unknown value", views);
                }
            },
        };
        if views.is_empty() {
            return self.leave_out(id, "no usable clip", views);
        }
        self.actions.push(Action { id: id.to_owned(), labels, fields, views });
    }

    /// Returns the path of a clip.
    pub fn clip(&self, view: &View) -> PathBuf {
        self.dir.join(&view.path)
    }

    /// Returns the paths of all clips, including those of actions that are left out.
    pub(crate) fn clips(&self) -> Vec<PathBuf> {
        let used = self.actions.iter().flat_map(|action| &action.views);
        let others = self.left_out.iter().flat_map(|action| &action.views);
        used.chain(others).map(|view| self.clip(view)).collect()
    }

    /// Returns a checksum of the ids of the usable actions, independent of their order.
    pub(crate) fn digest(&self) -> u32 {
        let mut ids: Vec<&str> = self.actions.iter().map(|action| action.id.as_str()).collect();
        ids.sort_unstable();
        let mut crc = crc32fast::Hasher::new();
        for id in ids {
            crc.update(id.as_bytes());
            // Without a terminator, different ids could concatenate to the same bytes.
            crc.update(&[0]);
        }
        crc.finalize()
    }

    /// Returns the number of usable actions per class of a task.
    pub fn class_counts(&self, task: usize, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for label in self.actions.iter().filter_map(|a| *a.labels.as_ref()?.get(task)?) {
            if let Some(count) = counts.get_mut(label) {
                *count += 1;
            }
        }
        counts
    }
}
