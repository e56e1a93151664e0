//! Infers the schema of a data set that has none: which fields are tasks, and their classes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::error::DataError;
use super::super::natural::natural_key;
use super::class_values::doubtful;
use super::format::usual_splits;
use super::listed::{Listed, OfSplit};
use crate::schema::{Schema, SplitSpec};
use crate::units::plural;

/// Maximum number of classes of a task; a field with more values contains names, times or remarks.
const MOST_CLASSES: usize = 1000;

/// A schema that was inferred.
pub(super) struct Inferred {
    pub schema: Schema,
    /// A note about every field.
    pub notes: Vec<String>,
    /// Classes that were most likely not meant as such.
    pub problems: Vec<OfSplit>,
}

/// Infers a schema with a task for each field that looks like one. Classes are in natural order.
/// With `are_classes`, the fields are known to be classes and need not look like tasks.
///
/// # Errors
/// No field is a task with at least two classes, or each class has only one action.
pub(super) fn infer(
    root: &Path,
    fields: &[String],
    are_classes: bool,
    actions: &[Listed],
) -> Result<Inferred, DataError> {
    let fail = |reason: String| DataError::Layout { path: root.to_owned(), reason };
    let mut tasks = Vec::new();
    let mut notes = Vec::new();
    for field in fields {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for value in actions.iter().filter_map(|action| action.fields.get(field)) {
            *counts.entry(value).or_insert(0) += 1;
        }
        let labelled: usize = counts.values().sum();
        let mut classes: Vec<String> = counts.keys().map(|value| (*value).to_owned()).collect();
        classes.sort_by_cached_key(|class| natural_key(class));
        if are_classes && let Some(class) = of_one_action_each(field, actions) {
            return Err(fail(format!(
                "each class has only one action, for example {class:?}: are these folders or labels \
                 really classes?"
            )));
        }
        match classes.len() {
            0 => notes.push(format!("{field:?} is not a task: it is empty everywhere")),
            1 => notes.push(format!("{field:?} is not a task: it is {:?} everywhere", classes[0])),
            // The values hardly ever repeat.
            n if !are_classes && (n > MOST_CLASSES || 3 * n > 2 * labelled.max(3)) => {
                notes.push(format!(
                    "{field:?} is not a task: {n} values for {}",
                    plural(labelled, "action")
                ));
            }
            _ => tasks.push((field.clone(), classes)),
        }
    }
    if tasks.is_empty() {
        let reasons = notes.join("; ");
        let reasons = if reasons.is_empty() { "there is none".to_owned() } else { reasons };
        return Err(DataError::NoClasses { path: root.to_owned(), reasons });
    }
    let mut problems = Vec::new();
    for (field, classes) in &tasks {
        problems.extend(doubtful(field, classes, !are_classes, actions));
        let names = classes.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if classes.len() > 8 { ", …" } else { "" };
        notes.push(format!("task {field:?}: {} classes ({names}{more})", classes.len()));
    }
    let name = root.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let schema = Schema::of_fields(&name, &splits(actions), tasks, "the inferred schema")?;
    Ok(Inferred { schema, notes, problems })
}

/// Returns a class of the largest split if each class has only one action there: SoccerNet's action
/// folders look like that without their annotations.
fn of_one_action_each<'a>(field: &str, actions: &'a [Listed]) -> Option<&'a str> {
    let mut splits: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for action in actions {
        let class = action.fields.get(field)?;
        splits.entry(action.split.as_deref()).or_default().push(class);
    }
    let largest = splits.into_values().max_by_key(Vec::len)?;
    let classes: BTreeSet<&str> = largest.iter().copied().collect();
    // With only two actions, this can be correct.
    (largest.len() > 2 && classes.len() == largest.len()).then(|| largest[0])
}

/// Returns the usual splits. A split that lists no labels is marked as unlabelled, for prediction.
fn splits(actions: &[Listed]) -> Vec<SplitSpec> {
    let labelled = |split: &SplitSpec| {
        let mut own = actions.iter().filter(|a| a.split.as_ref() == Some(&split.name)).peekable();
        own.peek().is_none() || own.any(|action| !action.fields.is_empty())
    };
    usual_splits()
        .into_iter()
        .map(|split| SplitSpec { labelled: labelled(&split), ..split })
        .collect()
}
