//! A data set with a folder per class: `CLASS/clip.mp4`, or `CLASS/action/view.mp4` for several
//! views.

use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::folder::{self, is_folder, unreadable};
use super::super::problem::{Problem, ProblemKind};
use super::super::split::View;
use super::super::video::has_image_extension;
use super::action_folder::{ActionClips, find_clips, is_video};
use super::listed::{Listed, ids};
use crate::schema::Fields;
use crate::units::plural;

/// The field that contains the class.
pub(super) const CLASS: &str = "class";

/// A folder whose subfolders are classes.
#[derive(Debug)]
pub(super) struct ClassFolders {
    /// The split to which the actions belong, if any.
    pub split: Option<String>,
    pub dir: PathBuf,
}

impl ClassFolders {
    /// Returns whether any class has a clip; otherwise this is not a data set.
    ///
    /// # Errors
    /// A folder cannot be read: without its clips, this would be a different data set.
    pub(super) fn has_clips(&self) -> Result<bool, DataError> {
        for class in subfolders(&self.dir)? {
            for path in entries(&class)? {
                if !ActionClips::of(&path)?.clips.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Returns the actions, class by class in natural order, and a problem if there are clips that
    /// belong to none of them. Paths are relative to `root`.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub(super) fn read(&self, root: &Path) -> Result<(Vec<Listed>, Option<Problem>), DataError> {
        let mut all = Vec::new();
        let mut unused = Vec::new();
        if entries(&self.dir)?.iter().any(|path| is_video(path)) {
            unused.push(self.dir.clone());
        }
        for class in subfolders(&self.dir)? {
            let name = file_name(&class);
            let actions = actions(&class, &mut unused)?;
            // `a.mp4` and `a.avi` are two different actions.
            let names = ids(&actions.iter().map(|(path, _)| file_name(path)).collect::<Vec<_>>());
            for ((_, action), id) in actions.into_iter().zip(names) {
                let id = format!("{name}/{id}");
                all.push(Listed {
                    split: self.split.clone(),
                    fields: Fields::from([(CLASS.to_owned(), name.clone())]),
                    views: action.clips.iter().map(|path| View::of_path(root, path)).collect(),
                    problems: unused_images(&id, &action).into_iter().collect(),
                    ..Listed::new(id)
                });
            }
        }
        Ok((all, unused_clips(root, &unused)))
    }
}

/// Returns the actions of a class with their paths, in natural order, and appends the folders of
/// the class whose clips belong to none of them.
fn actions(
    class: &Path,
    unused: &mut Vec<PathBuf>,
) -> Result<Vec<(PathBuf, ActionClips)>, DataError> {
    let mut actions = Vec::new();
    let mut has_images = false;
    for path in entries(class)? {
        has_images |= has_image_extension(&path);
        let action = ActionClips::of(&path)?;
        action.others.iter().filter(|path| !path.is_symlink()).for_each(|path| {
            find_clips(path, unused);
        });
        if !action.clips.is_empty() {
            actions.push((path, action));
        }
    }
    // Beside clips, an image is most likely a preview.
    if actions.is_empty() && has_images {
        unused.push(class.to_owned());
    }
    Ok(actions)
}

/// Describes the images of an action that are not used because it has videos, if there are any.
fn unused_images(id: &str, action: &ActionClips) -> Option<Problem> {
    let (images, folders) = (action.unused_images, action.unused_folders);
    let named = match (images, folders) {
        (0, 0) => return None,
        (_, 0) => plural(images, "image"),
        (0, _) => format!("{} of images", plural(folders, "folder")),
        _ => format!("{} and {} of images", plural(images, "image"), plural(folders, "folder")),
    };
    let are = if images + folders == 1 { "is" } else { "are" };
    let videos = plural(action.clips.len(), "video");
    let message = format!("{named} beside its {videos} {are} not used");
    Some(Problem::of_action(ProblemKind::UnusedImages, id, message))
}

/// Maximum number of folders that a message names.
const MAX_NAMED: usize = 5;

/// Describes the folders whose clips are not used, if there are any.
fn unused_clips(root: &Path, folders: &[PathBuf]) -> Option<Problem> {
    let shown = |path: &PathBuf| match path.strip_prefix(root) {
        Ok(inside) if inside.as_os_str().is_empty() => ".".to_owned(),
        inside => inside.unwrap_or(path).display().to_string(),
    };
    let named: Vec<String> = folders.iter().take(MAX_NAMED).map(shown).collect();
    let rest = match folders.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        rest => format!(" and {}", plural(rest, "more folder")),
    };
    let message = format!(
        "clips in {}{rest} are not used: clips belong in CLASS/ or CLASS/ACTION/",
        named.join(", ")
    );
    (!folders.is_empty()).then(|| Problem::of_split(ProblemKind::UnusedClips, message))
}

/// Folders that operating systems create at the root of a disk and that users may not read.
const SYSTEM_FOLDERS: [&str; 3] = ["lost+found", "System Volume Information", "$RECYCLE.BIN"];

/// Returns a folder's subfolders in natural order, without hidden ones and [`SYSTEM_FOLDERS`]; none
/// if `dir` is not a folder.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn subfolders(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !is_folder(dir)? {
        return Ok(Vec::new());
    }
    let mut inside = entries(dir)?;
    inside.retain(|path| SYSTEM_FOLDERS.iter().all(|name| !path.ends_with(name)));
    let tested = |path: PathBuf| Ok(is_folder(&path)?.then_some(path));
    inside.into_iter().filter_map(|path| tested(path).transpose()).collect()
}

/// Lists a folder.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    folder::entries(dir).map_err(|error| unreadable(dir, &error))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("a");
        fs::create_dir_all(class.join("1")).unwrap();
        fs::write(class.join("1/x.mp4"), b"clip").unwrap();
        let folders = ClassFolders { split: None, dir: root.path().to_owned() };
        assert!(folders.has_clips().unwrap());
        // Dangling links are ignored, and files are not folders.
        std::os::unix::fs::symlink(root.path().join("gone"), class.join("0")).unwrap();
        fs::write(root.path().join("notes.txt"), b"").unwrap();
        assert_eq!(folders.read(root.path()).unwrap().0.len(), 1);
        assert_eq!(subfolders(&root.path().join("notes.txt")).unwrap(), Vec::<PathBuf>::new());
        // A link to itself cannot be followed, even by root. System folders are not examined.
        let lost = root.path().join("lost+found");
        std::os::unix::fs::symlink(&lost, &lost).unwrap();
        assert_eq!(folders.read(root.path()).unwrap().0.len(), 1);
        let circle = root.path().join("b");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        for error in [folders.has_clips().map(|_| ()), folders.read(root.path()).map(|_| ())] {
            let error = error.unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{}: cannot be read: ", circle.display())),
                "{error}"
            );
        }
    }

    #[test]
    fn clips_that_differ_only_in_their_extension_are_different_actions() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a/x.avi", "a/x.mp4", "a/x.mp4.avi", "b/x.mp4", "b/y.v2.mp4", "b/y.avi"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"clip").unwrap();
        }
        let folders = ClassFolders { split: None, dir: root.path().to_owned() };
        let (actions, _) = folders.read(root.path()).unwrap();
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
