//! Actions that the arguments of `predict` specify, found in folders.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::data::clip::ClipError;
use crate::data::folder;
use crate::data::video::{has_clip_extension, has_image_extension, is_hidden, resolve_clip};

/// An action to classify.
pub(super) struct Action {
    /// Path after which the action is named: the folder in which its clips were found, or its only clip.
    /// `None` for clips that were listed one by one.
    path: Option<PathBuf>,
    /// Paths of the action's clips.
    pub(super) views: Vec<PathBuf>,
}

impl Action {
    fn name(&self) -> String {
        let Some(path) = &self.path else { return "action".to_owned() };
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// Returns a distinct name for each action. Actions that would share a name are named by their paths;
/// names that are then still equal, because their paths are not UTF-8, get a prime appended.
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

/// Returns the actions that the arguments specify.
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
            let actions: Result<Vec<Vec<Action>>, _> =
                folders.iter().map(|path| actions_in(path)).collect();
            Ok(actions?.into_iter().flatten().collect())
        }
        ([folder, ..], [clip, ..]) => Err(Failure::usage(format!(
            "{} is a clip and {} a folder of clips: give the clips of one action, or folders",
            clip.display(),
            folder.display()
        ))),
    }
}

/// Makes each clip of these actions an action of its own.
pub(super) fn each_clip(actions: Vec<Action>) -> Vec<Action> {
    let clips = actions.into_iter().flat_map(|action| action.views);
    clips.map(|clip| Action { path: Some(clip.clone()), views: vec![clip] }).collect()
}

/// Returns whether a folder is a clip: it holds images, and neither clips nor folders.
fn holds_images(folder: &Path) -> bool {
    let inside = entries(folder).unwrap_or_default();
    inside.iter().any(|path| has_image_extension(path))
        && !inside.iter().any(|path| path.is_dir() || has_clip_extension(path))
}

/// Returns the clips without hidden files: `find` and patterns with `dotglob` also return the files
/// that macOS leaves beside each clip.
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

/// Returns the clips of a folder as one action, or as an action for each folder in it; a folder of
/// images is a clip.
fn actions_in(folder: &Path) -> Result<Vec<Action>, Failure> {
    let files = |inside: &[PathBuf]| -> Vec<PathBuf> {
        inside.iter().filter(|path| has_clip_extension(path) && path.is_file()).cloned().collect()
    };
    // Only used where there are no clip files, because frames extracted from a clip may lie beside it.
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
                "{}: has clips of its own, so the folders of clips in it are left out: {}{more}",
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

/// Returns a folder's entries.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error| Failure::runtime(format!("{}: {error}", folder.display()));
    folder::entries(folder).map_err(fail)
}
