//! A data set with a folder per class: `CLASS/clip.mp4`, or `CLASS/action/view.mp4` for several
//! views.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::super::error::DataError;
use super::super::folder;
use super::super::split::View;
use super::super::video::{has_clip_extension, has_image_extension};
use super::listed::{Listed, ids};
use crate::schema::Fields;

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
            if any(&class, is_action)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the actions, class by class in natural order. Their paths are relative to `root`.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub(super) fn read(&self, root: &Path) -> Result<Vec<Listed>, DataError> {
        let mut all = Vec::new();
        for class in subfolders(&self.dir)? {
            let name = file_name(&class);
            let actions = filtered(entries(&class)?, is_action)?;
            // `a.mp4` and `a.avi` are two different actions.
            let names = ids(&actions.iter().map(|path| file_name(path)).collect::<Vec<_>>());
            for (path, action) in actions.into_iter().zip(names) {
                let views = match is_folder(&path)? && !is_clip(&path)? {
                    true => filtered(entries(&path)?, is_clip)?,
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
    filtered(inside, is_folder)
}

/// Returns whether `path` is a folder; a dangling link is not one.
///
/// # Errors
/// The path cannot be examined, for example if it is below a folder without search permission.
pub(super) fn is_folder(path: &Path) -> Result<bool, DataError> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.is_dir()),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Checks whether an error means that there is no such file or folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Lists a folder.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    folder::entries(dir).map_err(|error| unreadable(dir, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> DataError {
    DataError::Layout { path: path.to_owned(), reason: format!("cannot be read: {error}") }
}

/// A check of a path that can fail.
type Test = fn(&Path) -> Result<bool, DataError>;

/// Returns the paths that pass the test.
fn filtered(paths: Vec<PathBuf>, test: Test) -> Result<Vec<PathBuf>, DataError> {
    let tested = |path: PathBuf| Ok(test(&path)?.then_some(path));
    paths.into_iter().filter_map(|path| tested(path).transpose()).collect()
}

/// Returns whether any entry of a folder passes the test.
fn any(dir: &Path, test: Test) -> Result<bool, DataError> {
    for path in entries(dir)? {
        if test(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Checks whether a path is a clip or a folder of clips.
fn is_action(path: &Path) -> Result<bool, DataError> {
    Ok(is_clip(path)? || (is_folder(path)? && any(path, is_clip)?))
}

/// Checks whether a path is a video file or a folder of images.
fn is_clip(path: &Path) -> Result<bool, DataError> {
    if !is_folder(path)? {
        return Ok(has_clip_extension(path) && path.is_file());
    }
    any(path, |path| Ok(has_image_extension(path)))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
        assert_eq!(folders.read(root.path()).unwrap().len(), 1);
        assert_eq!(subfolders(&root.path().join("notes.txt")).unwrap(), Vec::<PathBuf>::new());
        // A link to itself cannot be followed, even by root. System folders are not examined.
        let lost = root.path().join("lost+found");
        std::os::unix::fs::symlink(&lost, &lost).unwrap();
        assert_eq!(folders.read(root.path()).unwrap().len(), 1);
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
