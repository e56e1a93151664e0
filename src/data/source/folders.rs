//! A data set of a folder per class: `CLASS/clip.mp4`, or `CLASS/action/view.mp4` for several views.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::folder;
use super::super::split::View;
use super::super::video::{has_clip_extension, has_image_extension};
use super::listed::Listed;
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
            let mut stems: HashMap<String, usize> = HashMap::new();
            actions.iter().for_each(|path| *stems.entry(stem(path)).or_insert(0) += 1);
            for path in actions {
                // `a.mp4` and `a.avi` are two actions.
                let unique = stems[&stem(&path)] == 1;
                let action = if unique { stem(&path) } else { file_name(&path) };
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

/// The name of a clip or folder, without a clip's extension.
fn stem(path: &Path) -> String {
    match has_clip_extension(path) {
        true => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        false => file_name(path),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
