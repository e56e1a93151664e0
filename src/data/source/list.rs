//! Lists with a path and a label per line, like those of Kinetics and other data sets.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::split::View;
use super::super::video::{has_clip_extension, resolve_clip};
use super::class_names::ClassNames;
use super::folders::CLASS;
use super::listed::{Listed, ids};
use super::table::TableFile;
use crate::schema::Fields;

/// Returns the actions of the lists of a data set, in the order of their lines, each with one clip.
/// Numeric labels are replaced by names from a class list in the lists' folder, if there is one;
/// notes say how, where this is not obvious.
///
/// # Errors
/// A line is invalid; the error says which one and why.
pub(super) fn read(
    files: &[TableFile],
    root: &Path,
) -> Result<(Vec<Listed>, Vec<String>), DataError> {
    let parsed: Vec<Vec<Line<'_>>> = files.iter().map(lines).collect::<Result<_, _>>()?;
    let mut names: BTreeMap<PathBuf, Option<ClassNames>> = BTreeMap::new();
    for (file, lines) in files.iter().zip(&parsed) {
        let folder = file.folder();
        if !names.contains_key(&folder) {
            names.insert(folder.clone(), ClassNames::find(&folder)?);
        }
        // The labels of all lists decide together from which number they count.
        if let Some(Some(names)) = names.get_mut(&folder) {
            lines.iter().filter_map(Line::number).for_each(|label| names.expect(label));
        }
    }
    let mut actions = Vec::new();
    for (file, lines) in files.iter().zip(parsed) {
        actions.extend(of_lines(file, &lines, names[&file.folder()].as_ref(), root)?);
    }
    let notes = names.values().flatten().filter_map(ClassNames::note).collect();
    Ok((actions, notes))
}

/// A line with a path and a label.
struct Line<'a> {
    /// Number of the line, counted from 1.
    number: usize,
    path: &'a str,
    label: &'a str,
}

impl Line<'_> {
    /// Returns the label if it is a number.
    fn number(&self) -> Option<usize> {
        self.label.parse().ok()
    }
}

/// Returns the lines of a list, without empty ones and remarks.
fn lines(file: &TableFile) -> Result<Vec<Line<'_>>, DataError> {
    let mut found = Vec::new();
    let all = (1..).zip(file.text.lines().map(str::trim));
    for (number, text) in all.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
        let Some((path, label)) = path_and_label(text, file.is_table()) else {
            let reason = format!("{text:?} has only a path or a label, but needs both");
            return Err(file.error(number, reason));
        };
        if found.is_empty() && file.is_table() && is_title(label) {
            let reason = "its first line looks like a header, but no column is called path, clip, video or \
                          file: rename the column with the paths to one of these";
            return Err(file.error(number, reason));
        }
        found.push(Line { number, path, label });
    }
    if found.is_empty() {
        return Err(file.error(1, "there is no line with a path and a label"));
    }
    Ok(found)
}

/// Returns the actions of one list.
fn of_lines(
    file: &TableFile,
    lines: &[Line<'_>],
    names: Option<&ClassNames>,
    root: &Path,
) -> Result<Vec<Listed>, DataError> {
    let mut base: Option<PathBuf> = None;
    let mut seen = HashSet::new();
    let (mut actions, mut paths) = (Vec::new(), Vec::new());
    for line in lines {
        let base = base.get_or_insert_with(|| base_of(file, line.path));
        let path = frames_path(base, line.path).unwrap_or(line.path);
        let class = match (names, line.number()) {
            (Some(names), Some(label)) => {
                names.name(label).map_err(|reason| file.error(line.number, reason))?
            }
            _ => line.label.to_owned(),
        };
        if !seen.insert(path.to_owned()) {
            return Err(file.error(line.number, format!("{path} occurs twice")));
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
