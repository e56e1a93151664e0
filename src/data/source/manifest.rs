//! Reads a table with a line per clip: `path`, and optionally `action`, `view`, `split` and
//! `group`. Every other column is a field of the action.

use std::collections::HashMap;
use std::path::Path;

use super::super::error::DataError;
use super::super::natural::natural_key;
use super::super::problem::{Problem, ProblemKind};
use super::super::split::View;
use super::listed::{Listed, ids};
use super::table::{PATH, TableFile};
use crate::schema::SplitSpec;
use crate::units::plural;

/// Indices of the columns of a table.
struct Columns {
    path: usize,
    action: Option<usize>,
    view: Option<usize>,
    split: Option<usize>,
    group: Option<usize>,
    /// Columns of fields, with their names.
    fields: Vec<(usize, String)>,
}

impl Columns {
    fn of(file: &TableFile, header: &csv::StringRecord) -> Result<Self, DataError> {
        let names: Vec<String> = header.iter().map(str::to_lowercase).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(file.error(1, format!("the column {name:?} occurs twice")));
            }
        }
        let position = |wanted: &str| names.iter().position(|name| name == wanted);
        let path = PATH.iter().find_map(|name| position(name));
        let path = path.ok_or_else(|| file.error(1, "no column is called `path`"))?;
        let [action, view, split, group] = ["action", "view", "split", "group"].map(position);
        let others = [Some(path), action, view, split, group];
        let is_field = |(index, _): &(usize, String)| !others.contains(&Some(*index));
        let fields = header.iter().map(str::to_owned).enumerate().filter(is_field).collect();
        Ok(Self { path, action, view, split, group, fields })
    }
}

/// Returns the fields of all tables, in order of their first occurrence.
pub(super) fn fields(files: &[TableFile]) -> Result<Vec<String>, DataError> {
    let mut all: Vec<String> = Vec::new();
    for file in files {
        let columns = Columns::of(file, &header(file)?)?;
        for (_, name) in columns.fields {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    Ok(all)
}

/// Returns the actions of a table, in the order of their first lines. Relative paths are relative
/// to the table's folder.
///
/// # Errors
/// A line is invalid; the error says which one and why.
pub(super) fn read(
    file: &TableFile,
    root: &Path,
    splits: &[SplitSpec],
) -> Result<Vec<Listed>, DataError> {
    let columns = Columns::of(file, &header(file)?)?;
    let ids = match columns.action {
        Some(_) => Vec::new(),
        None => ids(&paths(file, &columns)?),
    };
    let mut reader = reader(file);
    let mut actions: Vec<Action> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| broken(file, &error))?;
        let line = record.position().map_or(1, |at| usize::try_from(at.line()).unwrap_or(1));
        let cell = |column: Option<usize>| {
            column.and_then(|column| record.get(column)).unwrap_or_default()
        };
        let path = cell(Some(columns.path));
        if path.is_empty() {
            return Err(file.error(line, "the clip's path is empty"));
        }
        let split = split(file, line, columns.split.map(|_| cell(columns.split)), splits)?;
        let id = match cell(columns.action) {
            "" if columns.action.is_some() => {
                return Err(file.error(line, "the action is empty: give it a name or a number"));
            }
            "" => ids[index].clone(),
            id => id.to_owned(),
        };
        let known = actions.len();
        let position = *positions.entry(id.clone()).or_insert_with(|| {
            actions.push(Action::new(id.clone(), split.clone(), line));
            actions.len() - 1
        });
        let is_new = actions.len() > known;
        let action = &mut actions[position];
        if action.listed.split != split {
            let name = |split: &Option<String>| {
                split.clone().expect("only lines of a table that names splits differ in theirs")
            };
            let [before, here] = [&action.listed.split, &split].map(name);
            return Err(file.error(
                line,
                format!("action {id} is in {here} here and in {before} in line {}", action.line),
            ));
        }
        if columns.action.is_none() && !is_new {
            let message = format!("the path already occurs in line {}", action.line);
            return Err(file.error(line, message));
        }
        let group = cell(columns.group);
        if !group.is_empty() {
            action.listed.group = Some(group.to_owned());
        }
        for (column, name) in &columns.fields {
            action.set(name, cell(Some(*column)), line);
        }
        action.add_view(cell(columns.view), &file.folder().join(path), root);
    }
    if actions.is_empty() {
        return Err(file.error(1, "there is no line after the header"));
    }
    Ok(actions.into_iter().map(Action::finish).collect())
}

/// An action whose lines are being read.
struct Action {
    listed: Listed,
    /// First line of the action.
    line: usize,
    /// Line from which each field's value was read.
    lines: HashMap<String, usize>,
    views: Vec<(String, View)>,
}

impl Action {
    fn new(id: String, split: Option<String>, line: usize) -> Self {
        let listed = Listed { split, ..Listed::new(id) };
        Self { listed, line, lines: HashMap::new(), views: Vec::new() }
    }

    /// Sets a field's value; an empty one is ignored.
    fn set(&mut self, field: &str, value: &str, line: usize) {
        let listed = &mut self.listed;
        if value.is_empty() {
            return;
        }
        match listed.fields.get(field) {
            None => {
                listed.fields.insert(field.to_owned(), value.to_owned());
                self.lines.insert(field.to_owned(), line);
            }
            Some(before) if before != value => {
                let first = self.lines.get(field).copied().unwrap_or(self.line);
                let message =
                    format!("{field} is {before:?} in line {first} and {value:?} in line {line}");
                let kind = ProblemKind::DuplicateField;
                listed.problems.push(Problem::of_action(kind, &listed.id, message));
                listed.contradicting = true;
            }
            Some(_) => {}
        }
    }

    fn add_view(&mut self, name: &str, path: &Path, root: &Path) {
        let mut view = View::of_path(root, path);
        // A number only determines the order of the views.
        view.camera = (!name.is_empty() && name.parse::<f64>().is_err()).then(|| name.to_owned());
        self.views.push((name.to_owned(), view));
    }

    /// Returns the action with its views in natural order of their names; views without a name stay
    /// in the order of the lines.
    fn finish(mut self) -> Listed {
        self.views.sort_by_cached_key(|(name, _)| natural_key(name));
        for (_, view) in self.views {
            self.listed.add_view(view);
        }
        self.listed
    }
}

/// Returns the split of a line, from its cell or from the file's name.
fn split(
    file: &TableFile,
    line: usize,
    cell: Option<&str>,
    splits: &[SplitSpec],
) -> Result<Option<String>, DataError> {
    let Some(cell) = cell else {
        return Ok(file.split.clone());
    };
    let is = |spelling: &String| spelling.eq_ignore_ascii_case(cell);
    match splits.iter().find(|split| split.spellings.iter().any(is)) {
        Some(split) => Ok(Some(split.name.clone())),
        None => {
            let names: Vec<&str> = splits.iter().map(|split| split.name.as_str()).collect();
            let reason = format!("the split is {cell:?}, but must be one of {}", names.join(", "));
            Err(file.error(line, reason))
        }
    }
}

/// Returns the paths of all lines.
fn paths(file: &TableFile, columns: &Columns) -> Result<Vec<String>, DataError> {
    let mut reader = reader(file);
    let path = |record: csv::StringRecord| record.get(columns.path).unwrap_or_default().to_owned();
    let paths = reader.records().map(|record| record.map(path));
    paths.collect::<Result<_, _>>().map_err(|error| broken(file, &error))
}

fn reader(file: &TableFile) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(file.delimiter())
        .trim(csv::Trim::All)
        .from_reader(file.text.as_bytes())
}

fn header(file: &TableFile) -> Result<csv::StringRecord, DataError> {
    reader(file).headers().cloned().map_err(|error| broken(file, &error))
}

fn broken(file: &TableFile, error: &csv::Error) -> DataError {
    let line = error.position().map_or(1, |at| usize::try_from(at.line()).unwrap_or(1));
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {}, but the header has {expected_len}", plural(*len, "cell"))
        }
        _ => error.to_string(),
    };
    file.error(line, reason)
}
