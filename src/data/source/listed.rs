//! An action as folders and tables list it, before the schema's label rules.

use std::path::Path;

use super::super::problem::{Problem, ProblemKind};
use super::super::split::{Split, View};
use crate::schema::{Fields, Schema};

/// An action as a data set lists it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub id: String,
    /// Name of its split, if the data set has splits.
    pub split: Option<String>,
    /// What it must not be separated from when splits are made.
    pub group: Option<String>,
    pub fields: Fields,
    pub views: Vec<View>,
    pub problems: Vec<Problem>,
    /// Fields that have two values; the action cannot be used.
    pub contradicting: bool,
}

impl Listed {
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            split: None,
            group: None,
            fields: Fields::new(),
            views: Vec::new(),
            problems: Vec::new(),
            contradicting: false,
        }
    }

    /// Adds a clip, which must be a new one.
    pub(super) fn add_view(&mut self, view: View) {
        if self.views.iter().any(|other| other.path == view.path) {
            let message = "the clip is listed twice in this action";
            let kind = ProblemKind::DuplicateClip;
            self.problems.push(Problem::of_clip(kind, &self.id, view.url, message));
        } else {
            self.views.push(view);
        }
    }

    /// Adds it to a split by the schema's rules.
    pub(super) fn add_to(self, split: &mut Split, schema: &Schema) {
        split.problems.extend(self.problems);
        if self.contradicting {
            split.leave_out(&self.id, "contradicting labels", self.views);
        } else {
            split.add(schema, &self.id, self.fields, self.views);
        }
    }
}

impl View {
    /// A clip of which only the path is known; it is kept relative to `root` where it is below it.
    pub(super) fn of_path(root: &Path, path: &Path) -> Self {
        let path = path.strip_prefix(root).unwrap_or(path);
        Self {
            url: path.to_string_lossy().into_owned(),
            path: path.to_owned(),
            camera: None,
            replay_speed: None,
            timestamp: None,
        }
    }
}
