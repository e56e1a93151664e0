//! The actions that the arguments of `predict` name, found in folders.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::data::clip::ClipError;
use crate::data::folder;
use crate::data::video::{has_clip_extension, has_image_extension, is_hidden, resolve_clip};

/// An action to classify.
pub(super) struct Action {
    /// What it is called after: the folder where its clips were found, if they were not named one by one,
    /// or its only clip.
    path: Option<PathBuf>,
    /// Paths of its clips.
    pub(super) views: Vec<PathBuf>,
}

impl Action {
    fn name(&self) -> String {
        let Some(path) = &self.path else { return "action".to_owned() };
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// The actions' names, all different: of folders or clips of one name, their paths; of what is not UTF-8 and
/// still the same, with a mark.
pub(super) fn distinct_names(actions: &[Action]) -> Vec<String> {
    let mut count = HashMap::new();
    actions.iter().for_each(|action| *count.entry(action.name()).or_insert(0) += 1);
    let mut seen = HashSet::new();
    let mut name = |action: &Action| {
        let mut name = action.name();
        if count[&name] > 1 {
            name = action.path.as_ref().map_or(name, |path| path.to_string_lossy().into_owned());
        }
        while !seen.insert(name.clone()) {
            name.push('\'');
        }
        name
    };
    actions.iter().map(&mut name).collect()
}

/// The actions that the arguments specify.
pub(super) fn actions(given: &[PathBuf]) -> Result<Vec<Action>, Failure> {
    for path in given {
        resolve_clip(path).map_err(|error| match error {
            ClipError::Missing(path) => {
                Failure::usage(format!("{}: there is no such clip", path.display()))
            }
            other => Failure::runtime(other),
        })?;
    }
    // A folder of images is a clip.
    let is_folder = |path: &&PathBuf| path.is_dir() && !holds_images(path);
    let (folders, clips): (Vec<&PathBuf>, Vec<&PathBuf>) = given.iter().partition(is_folder);
    match (folders.as_slice(), clips.as_slice()) {
        ([], _) => Ok(vec![Action { path: None, views: without_hidden(given)? }]),
        (folders, []) => {
            let found: Result<Vec<Vec<Action>>, _> =
                folders.iter().map(|path| actions_in(path)).collect();
            Ok(found?.into_iter().flatten().collect())
        }
        ([folder, ..], [clip, ..]) => Err(Failure::usage(format!(
            "{} is a clip and {} a folder of clips: give the clips of one action, or folders",
            clip.display(),
            folder.display()
        ))),
    }
}

/// An action of each clip of these.
pub(super) fn each_clip(actions: Vec<Action>) -> Vec<Action> {
    let clips = actions.into_iter().flat_map(|action| action.views);
    clips.map(|clip| Action { path: Some(clip.clone()), views: vec![clip] }).collect()
}

/// Whether a folder is a clip: of images alone.
fn holds_images(folder: &Path) -> bool {
    let inside = entries(folder).unwrap_or_default();
    inside.iter().any(|path| has_image_extension(path))
        && !inside.iter().any(|path| path.is_dir() || has_clip_extension(path))
}

/// A pattern such as `find` or `dotglob` gives also names what macOS left beside each clip.
fn without_hidden(clips: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let is_hidden = |path: &&PathBuf| path.file_name().is_some_and(is_hidden);
    let (hidden, clips): (Vec<&PathBuf>, Vec<&PathBuf>) = clips.iter().partition(is_hidden);
    let why = "its name begins with a dot, so it is not a clip";
    if clips.is_empty() {
        return Err(Failure::usage(format!("{}: {why}", hidden[0].display())));
    }
    hidden.iter().for_each(|path| log::warn!("{}: left out: {why}", path.display()));
    Ok(clips.into_iter().cloned().collect())
}

/// The clips of a folder as one action, or those of each folder in it; a folder of images is a clip.
fn actions_in(folder: &Path) -> Result<Vec<Action>, Failure> {
    let files = |inside: &[PathBuf]| -> Vec<PathBuf> {
        inside.iter().filter(|path| has_clip_extension(path) && path.is_file()).cloned().collect()
    };
    // Frames that were taken out of a clip may lie beside it.
    let folders = |inside: &[PathBuf]| -> Vec<PathBuf> {
        inside.iter().filter(|path| path.is_dir() && holds_images(path)).cloned().collect()
    };
    let action = |folder: &Path, views| Action { path: Some(folder.to_owned()), views };
    let inside = entries(folder)?;
    let clips = files(&inside);
    if !clips.is_empty() {
        let has_clips = |path: &&PathBuf| {
            path.is_dir() && entries(path).is_ok_and(|within| !files(&within).is_empty())
        };
        let others: Vec<&PathBuf> = inside.iter().filter(has_clips).collect();
        if let [first, rest @ ..] = others.as_slice() {
            let more = match rest.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            log::warn!(
                "{}: it has clips of its own, so the folders of clips in it are left out: {}{more}",
                folder.display(),
                first.display()
            );
        }
        return Ok(vec![action(folder, clips)]);
    }
    let mut actions = Vec::new();
    for path in inside.iter().filter(|path| path.is_dir()) {
        let within = entries(path)?;
        let mut clips = files(&within);
        if clips.is_empty() {
            clips = folders(&within);
        }
        if !clips.is_empty() {
            actions.push(action(path, clips));
        }
    }
    let clips = folders(&inside);
    if actions.is_empty() && !clips.is_empty() {
        actions.push(action(folder, clips));
    }
    if actions.is_empty() {
        let folder = folder.display();
        return Err(Failure::usage(format!(
            "{folder}: contains neither clips nor folders of clips"
        )));
    }
    Ok(actions)
}

/// A folder's entries.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error| Failure::runtime(format!("{}: {error}", folder.display()));
    folder::entries(folder).map_err(fail)
}
