//! A data set of a folder per class: `CLASS/clip.mp4`, or `CLASS/action/view.mp4` for several views.

use std::path::{Path, PathBuf};
use std::{fs, io};

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
    ///
    /// # Errors
    /// A folder that cannot be read: without its clips this would be another data set.
    pub(super) fn has_clips(&self) -> Result<bool, DataError> {
        for class in subfolders(&self.dir)? {
            if any(&class, is_action)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The actions, class by class in natural order. Their paths begin below `root`.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(super) fn read(&self, root: &Path) -> Result<Vec<Listed>, DataError> {
        let mut all = Vec::new();
        for class in subfolders(&self.dir)? {
            let name = file_name(&class);
            let actions = filtered(entries(&class)?, is_action)?;
            // `a.mp4` and `a.avi` are two actions.
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

/// Folders that systems put at the top of a disk, and keep to themselves.
const OF_THE_SYSTEM: [&str; 3] = ["lost+found", "System Volume Information", "$RECYCLE.BIN"];

/// A folder's subfolders in natural order, without hidden ones and the system's; none of what is no folder.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn subfolders(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !is_folder(dir)? {
        return Ok(Vec::new());
    }
    let mut inside = entries(dir)?;
    inside.retain(|path| OF_THE_SYSTEM.iter().all(|name| !path.ends_with(name)));
    filtered(inside, is_folder)
}

/// Whether there is a folder; a link that leads nowhere is none.
///
/// # Errors
/// Nobody can tell, as behind a folder that may not be searched.
pub(super) fn is_folder(path: &Path) -> Result<bool, DataError> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.is_dir()),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Whether an error says that there is no such file or folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What a folder holds.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    folder::entries(dir).map_err(|error| unreadable(dir, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> DataError {
    DataError::Layout { path: path.to_owned(), reason: format!("cannot be read: {error}") }
}

/// A question about a path that the file system may not answer.
type Test = fn(&Path) -> Result<bool, DataError>;

/// Those of the paths of which it is true.
fn filtered(paths: Vec<PathBuf>, test: Test) -> Result<Vec<PathBuf>, DataError> {
    let tested = |path: PathBuf| Ok(test(&path)?.then_some(path));
    paths.into_iter().filter_map(|path| tested(path).transpose()).collect()
}

/// Whether it is true of anything in a folder.
fn any(dir: &Path, test: Test) -> Result<bool, DataError> {
    for path in entries(dir)? {
        if test(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A clip, or a folder of clips.
fn is_action(path: &Path) -> Result<bool, DataError> {
    Ok(is_clip(path)? || (is_folder(path)? && any(path, is_clip)?))
}

/// A video file, or a folder of images.
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
        // What leads nowhere is nothing, and files are no folders.
        std::os::unix::fs::symlink(root.path().join("gone"), class.join("0")).unwrap();
        fs::write(root.path().join("notes.txt"), b"").unwrap();
        assert_eq!(folders.read(root.path()).unwrap().len(), 1);
        assert_eq!(subfolders(&root.path().join("notes.txt")).unwrap(), Vec::<PathBuf>::new());
        // A link to itself cannot be followed, whoever asks. The system's folders are not asked for.
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
