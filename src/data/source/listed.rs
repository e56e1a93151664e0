//! An action as listed in folders and tables, before the schema's label rules are applied.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::super::problem::{Problem, ProblemKind};
use super::super::split::{Split, View};
use super::super::video::has_clip_extension;
use crate::schema::{Fields, Schema};

/// An action as listed in a data set.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub id: String,
    /// Name of the action's split, if the data set has splits.
    pub split: Option<String>,
    /// Group of actions that stay in the same split when splits are made.
    pub group: Option<String>,
    pub fields: Fields,
    pub views: Vec<View>,
    pub problems: Vec<Problem>,
    /// Whether a field has two different values, so that the action cannot be used.
    pub contradicting: bool,
}

/// A problem that concerns no single action, with the split that reports it.
pub(super) type OfSplit = (Option<String>, Problem);

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

    /// Adds a clip, or reports it as a duplicate if it is already listed.
    pub(super) fn add_view(&mut self, view: View) {
        if self.views.iter().any(|other| other.path == view.path) {
            let message = "the clip is listed twice in this action";
            let kind = ProblemKind::DuplicateClip;
            self.problems.push(Problem::of_clip(kind, &self.id, view.url, message));
        } else {
            self.views.push(view);
        }
    }

    /// Adds the action to a split according to the schema's rules.
    pub(super) fn add_to(self, split: &mut Split, schema: &Schema) {
        split.problems.extend(self.problems);
        if self.contradicting {
            split.leave_out(&self.id, "contradicting labels", self.views);
        } else {
            split.add(schema, &self.id, self.fields, self.views);
        }
    }
}

/// Returns ids of actions from their clips' paths: without the video's extension, unless this would
/// give several actions the same id. A folder's name keeps everything after a dot.
pub(super) fn ids(paths: &[String]) -> Vec<String> {
    let short = |path: &String| match has_clip_extension(Path::new(path)) {
        true => Path::new(path).with_extension("").to_string_lossy().into_owned(),
        false => path.clone(),
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    paths.iter().for_each(|path| *counts.entry(short(path)).or_insert(0) += 1);
    let id = |path: &String| if counts[&short(path)] == 1 { short(path) } else { path.clone() };
    let ids: Vec<String> = paths.iter().map(id).collect();
    let distinct = ids.iter().collect::<HashSet<_>>().len();
    // A full name can equal another one without its extension.
    if distinct == paths.iter().collect::<HashSet<_>>().len() { ids } else { paths.to_vec() }
}

impl View {
    /// Creates a view of which only the path is known; the path is made relative to `root` if it is
    /// below it.
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

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn action_ids_are_paths_without_the_video_extension() {
        let of =
            |paths: &[&str]| ids(&paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a/b.mp4", "a/c.MOV", "d"]), ["a/b", "a/c", "d"]);
        // Folders of images, two containers, and a path that is listed twice.
        assert_eq!(of(&["clip.1", "clip.2"]), ["clip.1", "clip.2"]);
        assert_eq!(of(&["a.mp4", "a.avi", "b.avi"]), ["a.mp4", "a.avi", "b"]);
        assert_eq!(of(&["a.mp4", "a.mp4"]), ["a.mp4", "a.mp4"]);
        assert_eq!(of(&["a.mp4.avi", "a.mp4", "a.mov"]), ["a.mp4.avi", "a.mp4", "a.mov"]);
    }
}
