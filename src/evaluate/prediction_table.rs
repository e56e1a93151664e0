//! Reading the table that [`predictions_csv`](super::predictions_csv) writes.

use indexmap::IndexMap;
use indexmap::map::Entry;

use super::Answers;
use crate::text;

/// Why a table of predictions could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", .line.map_or(String::new(), |line| format!("line {line}: ")))]
pub struct TableError {
    /// Line, counted from 1, if known.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl TableError {
    fn new(line: Option<u64>, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// The annotated and predicted classes in a table of predictions. The probabilities are not read.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionTable {
    /// Each task's name with the names of its classes.
    pub tasks: Vec<(String, Vec<String>)>,
    /// For each action and task, the index of the annotated class, if known, and of the predicted one.
    pub actions: IndexMap<String, Vec<(Option<usize>, usize)>>,
}

impl PredictionTable {
    /// Parses a table.
    ///
    /// # Errors
    /// [`TableError`] if the columns are not those of such a table, a class is not one of the task's, or an
    /// action occurs twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let decoded = text::decode(bytes)
            .map_err(|error| TableError::new(Some(error.line as u64), error.reason))?;
        let failed = |error: csv::Error| {
            let reason = match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("{len} columns instead of {expected_len}")
                }
                _ => error.to_string(),
            };
            TableError::new(error.position().map(csv::Position::line), reason)
        };
        let mut table = csv::Reader::from_reader(decoded.text.as_bytes());
        let tasks = tasks(table.headers().map_err(failed)?)?;
        let mut actions = IndexMap::new();
        for row in table.records() {
            let row = row.map_err(failed)?;
            let line = row.position().map(csv::Position::line);
            let class = |column: usize, (task, classes): &(String, Vec<String>)| {
                let name = &row[column];
                let index = classes.iter().position(|class| class == name);
                index.ok_or_else(|| {
                    TableError::new(line, format!("{name:?} is not a class of {task}"))
                })
            };
            let answer = |(index, task): (usize, &(String, Vec<String>))| {
                let [predicted, label] = [1 + 3 * index, 2 + 3 * index];
                let known = !row[label].is_empty();
                let label = if known { Some(class(label, task)?) } else { None };
                Ok((label, class(predicted, task)?))
            };
            let answers = tasks.iter().enumerate().map(answer).collect::<Result<_, _>>()?;
            match actions.entry(row[0].to_owned()) {
                Entry::Vacant(action) => drop(action.insert(answers)),
                Entry::Occupied(action) => {
                    let reason = format!("action {} occurs twice", action.key());
                    return Err(TableError::new(line, reason));
                }
            }
        }
        Ok(Self { tasks, actions })
    }

    /// Returns the number of classes of each task.
    pub(crate) fn classes(&self) -> Vec<usize> {
        self.tasks.iter().map(|(_, classes)| classes.len()).collect()
    }

    /// Returns the answers in the tasks whose class is known, in the order of the table.
    pub(crate) fn answers(&self) -> Vec<Answers> {
        let known = |&(label, predicted): &(Option<usize>, usize)| Some((label?, predicted));
        self.actions.values().map(|tasks| tasks.iter().map(known).collect()).collect()
    }
}

/// Returns the tasks and classes that a header names.
fn tasks(header: &csv::StringRecord) -> Result<Vec<(String, Vec<String>)>, TableError> {
    let columns: Vec<&str> = header.iter().collect();
    let fail = || {
        TableError::new(
            Some(1),
            "not a table of predictions: its columns must be action, then TASK, TASK_label and \
             TASK_confidence of each task, then TASK=CLASS",
        )
    };
    let Some((&"action", columns)) = columns.split_first() else {
        return Err(fail());
    };
    let (names, classes): (Vec<&str>, Vec<&str>) =
        columns.iter().partition(|column| !column.contains('='));
    let mut tasks = Vec::new();
    for names in names.chunks(3) {
        let &[name, label, confidence] = names else { return Err(fail()) };
        let fits = label == format!("{name}_label") && confidence == format!("{name}_confidence");
        let prefix = format!("{name}=");
        let classes: Vec<String> = classes
            .iter()
            .filter_map(|column| column.strip_prefix(&prefix).map(str::to_owned))
            .collect();
        if !fits || classes.is_empty() {
            return Err(fail());
        }
        tasks.push((name.to_owned(), classes));
    }
    let found: usize = tasks.iter().map(|(_, classes)| classes.len()).sum();
    if tasks.is_empty() || found != classes.len() {
        return Err(fail());
    }
    Ok(tasks)
}
