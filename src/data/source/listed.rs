//! An action as folders and tables list it, before the schema's label rules.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::super::problem::{Problem, ProblemKind};
use super::super::split::{Split, View};
use super::super::video::has_clip_extension;
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

/// Names of actions by their clips' paths: without the extension of a video, unless several would have one
/// name then. A folder's name keeps what follows a dot.
pub(super) fn ids(paths: &[String]) -> Vec<String> {
    let short = |path: &String| match has_clip_extension(Path::new(path)) {
        true => Path::new(path).with_extension("").to_string_lossy().into_owned(),
        false => path.clone(),
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    paths.iter().for_each(|path| *counts.entry(short(path)).or_insert(0) += 1);
    let id = |path: &String| if counts[&short(path)] == 1 { short(path) } else { path.clone() };
    let ids: Vec<String> = paths.iter().map(id).collect();
    let different = ids.iter().collect::<HashSet<_>>().len();
    // A name in full may be that of another without its extension.
    if different == paths.iter().collect::<HashSet<_>>().len() { ids } else { paths.to_vec() }
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

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn actions_are_named_by_paths_without_a_videos_extension() {
        let of =
            |paths: &[&str]| ids(&paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a/b.mp4", "a/c.MOV", "d"]), ["a/b", "a/c", "d"]);
        // Folders of images, two codecs, and a path that is listed twice.
        assert_eq!(of(&["clip.1", "clip.2"]), ["clip.1", "clip.2"]);
        assert_eq!(of(&["a.mp4", "a.avi", "b.avi"]), ["a.mp4", "a.avi", "b"]);
        assert_eq!(of(&["a.mp4", "a.mp4"]), ["a.mp4", "a.mp4"]);
        assert_eq!(of(&["a.mp4.avi", "a.mp4", "a.mov"]), ["a.mp4.avi", "a.mp4", "a.mov"]);
    }
}
