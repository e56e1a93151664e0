//! Lists with a path and a label per line, like those of Kinetics and other data sets.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::split::View;
use super::super::video::{has_clip_extension, resolve_clip};
use super::folders::CLASS;
use super::listed::{Listed, ids};
use super::table::TableFile;
use crate::schema::Fields;
use crate::text;

/// Returns the actions of a list, in the order of its lines, each with one clip. Numeric labels are
/// replaced by names from a class list in the same folder, if there is one.
///
/// # Errors
/// A line is invalid; the error says which one and why.
pub(super) fn read(file: &TableFile, root: &Path) -> Result<Vec<Listed>, DataError> {
    let names = class_names(&file.folder())?;
    let mut base: Option<PathBuf> = None;
    let mut seen = HashSet::new();
    let (mut actions, mut paths) = (Vec::new(), Vec::new());
    let lines = (1..).zip(file.text.lines().map(str::trim));
    for (line, text) in lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
        let Some((path, label)) = path_and_label(text, file.is_table()) else {
            return Err(
                file.error(line, format!("{text:?} has only a path or a label, but needs both"))
            );
        };
        if actions.is_empty() && file.is_table() && is_title(label) {
            let reason = "its first line looks like a header, but no column is called path, clip, video or \
                          file: rename the column with the paths to one of these";
            return Err(file.error(line, reason));
        }
        let base = base.get_or_insert_with(|| base_of(file, path));
        let path = frames_path(base, path).unwrap_or(path);
        let class = match (&names, label.parse::<usize>()) {
            (Some(names), Ok(index)) => names.get(index).cloned().ok_or_else(|| {
                file.error(
                    line,
                    format!("the label is {index}, but there are only {} classes", names.len()),
                )
            })?,
            _ => label.to_owned(),
        };
        if !seen.insert(path.to_owned()) {
            return Err(file.error(line, format!("{path} occurs twice")));
        }
        paths.push(path.to_owned());
        actions.push(Listed {
            split: file.split.clone(),
            fields: Fields::from([(CLASS.to_owned(), class)]),
            views: vec![View::of_path(root, &base.join(path))],
            ..Listed::new(String::new())
        });
    }
    for (action, id) in actions.iter_mut().zip(ids(&paths)) {
        action.id = id;
    }
    if actions.is_empty() {
        return Err(file.error(1, "there is no line with a path and a label"));
    }
    Ok(actions)
}

/// Splits a line into path and label. Both may contain white space if they are separated by a
/// comma, a semicolon or a tab, as in a table.
fn path_and_label(text: &str, in_table: bool) -> Option<(&str, &str)> {
    let by_mark = text.rsplit_once([',', ';', '\t']).map(trimmed);
    let by_space = text.rsplit_once(char::is_whitespace).map(trimmed);
    match (by_mark, by_space) {
        (Some(mark), Some(space)) => {
            let is_clip = |(path, _): (&str, &str)| has_clip_extension(Path::new(path));
            let cut = space.0.ends_with([',', ';']) || (is_clip(mark) && !is_clip(space));
            Some(if in_table || cut { mark } else { space })
        }
        (found, other) => found.or(other),
    }
}

fn trimmed<'a>((path, label): (&'a str, &'a str)) -> (&'a str, &'a str) {
    (path.trim_end(), label.trim_start())
}

/// Checks whether a label is a typical column title.
fn is_title(label: &str) -> bool {
    const TITLES: [&str; 6] = ["label", "labels", "class", "category", "target", "action"];
    TITLES.iter().any(|title| label.trim_matches('"').eq_ignore_ascii_case(title))
}

/// Returns the folder to which a list's paths are relative: the list's folder, or one in it that is
/// named after the split or "videos". The first path decides.
fn base_of(file: &TableFile, first: &str) -> PathBuf {
    let folder = file.folder();
    let split = file.split.clone().unwrap_or_default();
    // Lists usually call validation "val".
    let short = if split == "valid" { "val".to_owned() } else { split.clone() };
    let candidates = [
        String::new(),
        split.clone(),
        short.clone(),
        "videos".to_owned(),
        format!("videos_{split}"),
        format!("videos_{short}"),
    ];
    let mut bases = candidates.iter().map(|name| folder.join(name));
    let has = |base: &PathBuf| {
        let path = frames_path(base, first).unwrap_or(first);
        resolve_clip(&base.join(path)).is_ok()
    };
    bases.find(has).unwrap_or(folder)
}

/// Returns the folder in `PATH FRAMES`, as in lists of image folders with their number of frames.
fn frames_path<'a>(base: &Path, path: &'a str) -> Option<&'a str> {
    let (folder, frames) = path.rsplit_once(char::is_whitespace)?;
    let is_count = frames.bytes().all(|byte| byte.is_ascii_digit());
    (is_count && base.join(folder).is_dir()).then_some(folder)
}

/// Returns the classes in `classes.txt` or `label_map*.txt` of a folder, one per line.
fn class_names(folder: &Path) -> Result<Option<Vec<String>>, DataError> {
    let is_map = |name: &str| {
        name == "classes.txt" || (name.starts_with("label_map") && name.ends_with(".txt"))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| is_map(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    let Some(path) = paths.first() else { return Ok(None) };
    let fail = |reason: String| DataError::Layout { path: path.clone(), reason };
    let bytes = std::fs::read(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let text = text::decode(&bytes).map_err(|error| fail(error.to_string()))?.text;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(Some(lines.map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::path_and_label;

    #[test]
    fn a_line_is_a_path_and_a_label() {
        for (text, in_table, path, label) in [
            ("videos/some clip.mp4 17", false, "videos/some clip.mp4", "17"),
            ("some/frames 120 17", false, "some/frames 120", "17"),
            ("a, b.mp4 3", false, "a, b.mp4", "3"),
            ("a.mp4, 3", false, "a.mp4", "3"),
            ("a.mp4\t3", false, "a.mp4", "3"),
            ("a.mp4,playing guitar", false, "a.mp4", "playing guitar"),
            ("a b.mp4,playing guitar", true, "a b.mp4", "playing guitar"),
            ("frames/a;playing guitar", true, "frames/a", "playing guitar"),
            ("a.mp4 3", true, "a.mp4", "3"),
        ] {
            assert_eq!(path_and_label(text, in_table), Some((path, label)), "{text}");
        }
        assert_eq!(path_and_label("a.mp4", false), None);
    }
}
