//! What a folder holds: an action's clips, and what lies beside them and is not used.

use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::folder::is_folder;
use super::super::video::{has_clip_extension, has_image_extension};
use super::folders::entries;

/// What lies directly in a folder, each in natural order.
#[derive(Debug, Default)]
struct Contents {
    videos: Vec<PathBuf>,
    /// Number of images.
    images: usize,
    folders: Vec<PathBuf>,
}

impl Contents {
    fn of(dir: &Path) -> Result<Self, DataError> {
        let mut contents = Self::default();
        for path in entries(dir)? {
            // Not examined one by one: a clip can have thousands of them.
            if has_image_extension(&path) {
                contents.images += 1;
            } else if is_folder(&path)? {
                contents.folders.push(path);
            } else if is_video(&path) {
                contents.videos.push(path);
            }
        }
        Ok(contents)
    }

    /// Returns whether the folder is a clip. Images beside videos are pictures of these, or frames
    /// that were extracted from them.
    fn is_clip(&self) -> bool {
        self.images > 0 && self.videos.is_empty()
    }
}

/// The clips of an action, and what is not used beside them.
#[derive(Debug, Default)]
pub(super) struct ActionClips {
    /// Videos and folders of images; empty if the path is not an action.
    pub clips: Vec<PathBuf>,
    /// Number of images that are not used because there are videos.
    pub unused_images: usize,
    /// Number of folders of images that are not used because there are videos.
    pub unused_folders: usize,
    /// Other folders, which are not read.
    pub others: Vec<PathBuf>,
}

impl ActionClips {
    /// Finds the clips of the action at `path`: the file itself if it is a video; the videos in a
    /// folder; its images, which are one clip, if it contains no video; otherwise the folders of
    /// images in it.
    ///
    /// # Errors
    /// A folder that may contain clips of the action cannot be read.
    pub(super) fn of(path: &Path) -> Result<Self, DataError> {
        if !is_folder(path)? {
            let clips = if is_video(path) { vec![path.to_owned()] } else { Vec::new() };
            return Ok(Self { clips, ..Self::default() });
        }
        let Contents { videos, images, folders } = Contents::of(path)?;
        if !videos.is_empty() {
            let is_clip = |folder: &PathBuf| Contents::of(folder).is_ok_and(|c| c.is_clip());
            let (unused, others): (Vec<_>, Vec<_>) = folders.into_iter().partition(is_clip);
            let unused_folders = unused.len();
            return Ok(Self { clips: videos, unused_images: images, unused_folders, others });
        }
        if images > 0 {
            return Ok(Self { clips: vec![path.to_owned()], others: folders, ..Self::default() });
        }
        let mut found = Self::default();
        for folder in folders {
            let inside = Contents::of(&folder)?;
            if inside.is_clip() {
                found.clips.push(folder);
                found.others.extend(inside.folders);
            } else {
                found.others.push(folder);
            }
        }
        Ok(found)
    }
}

/// Appends the folders at and below `dir` that contain clips. Links in it are not followed: they
/// may lead back. A folder that cannot be read is skipped: nothing in it would be used anyway.
pub(super) fn find_clips(dir: &Path, found: &mut Vec<PathBuf>) {
    let inside = match Contents::of(dir) {
        Ok(inside) => inside,
        Err(error) => {
            log::debug!("{error}");
            return;
        }
    };
    if inside.images > 0 || !inside.videos.is_empty() {
        found.push(dir.to_owned());
    }
    for folder in inside.folders.iter().filter(|folder| !folder.is_symlink()) {
        find_clips(folder, found);
    }
}

/// Returns whether a path is a video file.
pub(super) fn is_video(path: &Path) -> bool {
    has_clip_extension(path) && path.is_file()
}
