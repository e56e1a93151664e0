//! A data set of a folder per class: `CLASS/clip.mp4`, or `CLASS/action/view.mp4` for several views.

use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::folder;
use super::super::split::View;
use super::super::video::{has_clip_extension, has_image_extension};
use super::listed::{Listed, ids};
use crate::schema::Fields;

/// The field that has the class.
pub(super) const CLASS: &str = "class";

/// A folder whose subfolders are classes.
#[derive(Debug)]
pub(super) struct ClassFolders {
    /// The split that its actions belong to, if they are split.
    pub split: Option<String>,
    pub dir: PathBuf,
}

impl ClassFolders {
    /// Whether any class has a clip, so that it is a data set at all.
    pub(super) fn has_clips(&self) -> bool {
        subfolders(&self.dir)
            .iter()
            .any(|class| entries(class).is_ok_and(|e| e.iter().any(|path| is_action(path))))
    }

    /// The actions, class by class in natural order. Their paths begin below `root`.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(super) fn read(&self, root: &Path) -> Result<Vec<Listed>, DataError> {
        let mut all = Vec::new();
        for class in subfolders(&self.dir) {
            let name = file_name(&class);
            let actions: Vec<PathBuf> =
                entries(&class)?.into_iter().filter(|path| is_action(path)).collect();
            // `a.mp4` and `a.avi` are two actions.
            let names = ids(&actions.iter().map(|path| file_name(path)).collect::<Vec<_>>());
            for (path, action) in actions.into_iter().zip(names) {
                let views = match path.is_dir() && !is_clip(&path) {
                    true => entries(&path)?.into_iter().filter(|path| is_clip(path)).collect(),
                    false => vec![path],
                };
                all.push(Listed {
                    split: self.split.clone(),
                    fields: Fields::from([(CLASS.to_owned(), name.clone())]),
                    views: views.iter().map(|path| View::of_path(root, path)).collect(),
                    ..Listed::new(format!("{name}/{action}"))
                });
            }
        }
        Ok(all)
    }
}

/// A folder's subfolders in natural order, without hidden ones; none if it cannot be read.
pub(super) fn subfolders(dir: &Path) -> Vec<PathBuf> {
    let entries = entries(dir).unwrap_or_default();
    entries.into_iter().filter(|path| path.is_dir()).collect()
}

/// What a folder holds.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    folder::entries(dir).map_err(|error| DataError::Layout {
        path: dir.to_owned(),
        reason: format!("cannot be read: {error}"),
    })
}

/// A clip, or a folder of clips.
fn is_action(path: &Path) -> bool {
    is_clip(path) || (path.is_dir() && entries(path).is_ok_and(|e| e.iter().any(|p| is_clip(p))))
}

/// A video file, or a folder of images.
fn is_clip(path: &Path) -> bool {
    if !path.is_dir() {
        return has_clip_extension(path) && path.is_file();
    }
    entries(path).is_ok_and(|inside| inside.iter().any(|path| has_image_extension(path)))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_that_differ_in_their_extension_are_actions_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a/x.avi", "a/x.mp4", "a/x.mp4.avi", "b/x.mp4", "b/y.v2.mp4", "b/y.avi"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"clip").unwrap();
        }
        let folders = ClassFolders { split: None, dir: root.path().to_owned() };
        let actions = folders.read(root.path()).unwrap();
        let found: Vec<_> =
            actions.iter().map(|a| (a.id.as_str(), a.views[0].url.as_str())).collect();
        let expected = [
            ("a/x.avi", "a/x.avi"),
            ("a/x.mp4", "a/x.mp4"),
            ("a/x.mp4.avi", "a/x.mp4.avi"),
            ("b/x", "b/x.mp4"),
            ("b/y", "b/y.avi"),
            ("b/y.v2", "b/y.v2.mp4"),
        ];
        assert_eq!(found, expected);
    }
}
