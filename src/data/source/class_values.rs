//! Finds inferred classes that are most likely a missing value or a variant of another class.

use std::collections::BTreeMap;

use super::super::layout;
use super::super::problem::{Problem, ProblemKind};
use super::format::usual_splits;
use super::listed::{Listed, OfSplit};
use crate::units::plural;

/// Usual spellings of a missing value, in lower case.
const MISSING: [&str; 11] =
    ["na", "n/a", "#n/a", "<na>", "nan", "none", "null", "nil", "-", "--", "?"];

/// Returns the classes of a field that look like a missing value, if the field `may_be_empty`, and
/// those whose names differ only in case or white space. They remain classes: only the user knows
/// what was meant.
pub(super) fn doubtful(
    field: &str,
    classes: &[String],
    may_be_empty: bool,
    actions: &[Listed],
) -> Vec<OfSplit> {
    let values = Values { field, actions };
    let missing = classes.iter().filter(|class| may_be_empty && looks_missing(class));
    let mut problems: Vec<OfSplit> = missing.map(|class| values.missing(class)).collect();
    let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for class in classes {
        alike.entry(bare(class)).or_default().push(class.clone());
    }
    let alike = alike.values().filter(|classes| classes.len() > 1);
    problems.extend(alike.map(|classes| values.alike(classes)));
    problems
}

/// The values of a field.
struct Values<'a> {
    field: &'a str,
    actions: &'a [Listed],
}

impl Values<'_> {
    fn missing(&self, class: &str) -> OfSplit {
        let has = |action: &&Listed| action.fields.get(self.field).is_some_and(|v| v == class);
        let count = plural(self.actions.iter().filter(has).count(), "action");
        let message = format!(
            "{}: the class {class:?} ({count}) looks like a missing value; leave the cell empty if it is \
             one",
            self.field
        );
        let problem = Problem::of_split(ProblemKind::MissingValue, message);
        (self.split(&[class.to_owned()]), problem)
    }

    fn alike(&self, classes: &[String]) -> OfSplit {
        let quoted: Vec<String> = classes.iter().map(|class| format!("{class:?}")).collect();
        let message = format!(
            "{}: {} are different classes, but differ only in case or white space",
            self.field,
            layout::listed(&quoted)
        );
        (self.split(classes), Problem::of_split(ProblemKind::SimilarClasses, message))
    }

    /// Returns the first split, in the usual order, that contains one of the classes.
    fn split(&self, classes: &[String]) -> Option<String> {
        let splits = usual_splits();
        let has =
            |action: &&Listed| action.fields.get(self.field).is_some_and(|v| classes.contains(v));
        let of = self.actions.iter().filter(has).map(|action| &action.split);
        let place = |name: &&Option<String>| {
            splits.iter().position(|split| Some(&split.name) == name.as_ref())
        };
        of.min_by_key(place).cloned().flatten()
    }
}

fn looks_missing(class: &str) -> bool {
    MISSING.contains(&class.trim().to_lowercase().as_str())
}

/// Returns a name in lower case and without white space.
fn bare(class: &str) -> String {
    class.to_lowercase().split_whitespace().collect()
}
