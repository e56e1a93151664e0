//! Finds misspelled fields of a split's actions, and fields that are missing everywhere.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::super::json::Object;
use super::super::problem::{Problem, ProblemKind};
use super::CLIPS;
use crate::near::nearest;
use crate::schema::Schema;
use crate::units::plural;

/// Counts the fields of a split's actions.
pub(super) struct FieldTally<'a> {
    schema: &'a Schema,
    known: Vec<&'a str>,
    /// Number of actions that are objects.
    actions: usize,
    present: HashSet<&'a str>,
    unknown: IndexMap<String, Unknown<'a>>,
}

/// A field that the schema does not name.
struct Unknown<'a> {
    actions: usize,
    /// The known field with a similar name.
    near: Option<&'a str>,
    /// Number of actions that have this field but lack the known one.
    instead: usize,
}

impl<'a> FieldTally<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        let ignored = schema.ignored_fields.iter().flatten().map(String::as_str);
        let known = schema.fields().into_iter().chain(ignored).chain([CLIPS]).collect();
        Self { schema, known, actions: 0, present: HashSet::new(), unknown: IndexMap::new() }
    }

    /// Adds an action.
    pub(super) fn add(&mut self, entry: &Object) {
        self.actions += 1;
        let keys: HashSet<&str> = entry.keys().collect();
        for &field in &self.known {
            if keys.contains(field) {
                self.present.insert(field);
            }
        }
        // In file order, each field once.
        let mut left = keys.clone();
        for key in entry.keys().filter(|key| left.remove(key)) {
            if self.known.contains(&key) {
                continue;
            }
            let unknown = self.unknown.entry(key.to_owned()).or_insert_with(|| Unknown {
                actions: 0,
                near: nearest(key, self.known.iter().copied()),
                instead: 0,
            });
            unknown.actions += 1;
            unknown.instead += usize::from(unknown.near.is_some_and(|near| !keys.contains(near)));
        }
    }

    /// Returns the problems with the fields of the whole split, one per field.
    pub(super) fn problems(self, labelled: bool) -> Vec<Problem> {
        let mut problems = self.missing(labelled);
        // A schema without a list of ignored fields accepts any other field: then only a field that
        // appears instead of a known one is suspicious.
        let closed = self.schema.ignored_fields.is_some();
        for (field, Unknown { actions, near, instead }) in self.unknown {
            let near = near.filter(|_| instead > 0);
            let message = match near {
                Some(near) => {
                    let count = plural(instead, "action");
                    format!("{field:?} in {count}: no such field; did you mean {near:?}?")
                }
                None if closed => {
                    format!(
                        "{field:?} in {}: the schema does not name it",
                        plural(actions, "action")
                    )
                }
                None => continue,
            };
            problems.push(Problem::of_split(ProblemKind::UnknownField, message));
        }
        problems
    }

    fn missing(&self, labelled: bool) -> Vec<Problem> {
        let mut missing: IndexMap<&str, Vec<&str>> = IndexMap::new();
        if labelled && self.actions > 0 {
            for task in &self.schema.tasks {
                for field in task.fields().into_iter().filter(|f| !self.present.contains(f)) {
                    missing.entry(field).or_default().push(&task.title);
                }
            }
        }
        let problem = |(field, titles): (&str, Vec<&str>)| {
            let titles = titles.join(" and ");
            let message = format!("no action has the field {field:?}, which determines {titles}");
            Problem::of_split(ProblemKind::MissingField, message)
        };
        missing.into_iter().map(problem).collect()
    }
}
