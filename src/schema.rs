//! The schema of a data set: its tasks, classes and label rules as data.
//!
//! A schema is a TOML file; `schemas/mvfoul.toml` is built in and documents the format at its top.
//! Code outside this module refers to fields and classes only through a [`Schema`].

mod error;
mod file;
mod select;
mod validate;
mod write;

pub use error::SchemaError;

use std::collections::BTreeSet;
use std::path::Path;

use indexmap::IndexMap;

use crate::data::Window;
use crate::text;

/// The values of an action's annotated fields, by field name. A missing field counts as `""`.
pub type Fields = IndexMap<String, String>;

/// A condition on fields: the matching values of each field.
pub(crate) type Condition = IndexMap<String, Vec<String>>;

/// Returns the value of a field, `""` if it is missing.
fn value<'a>(fields: &'a Fields, field: &str) -> &'a str {
    fields.get(field).map_or("", String::as_str)
}

/// Returns whether the field's value is among the listed ones.
fn is_one_of(fields: &Fields, field: &str, values: &[String]) -> bool {
    let found = value(fields, field);
    values.iter().any(|known| known == found)
}

/// The description of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Short name, for file names.
    pub name: String,
    /// Name for tables and reports.
    pub title: String,
    /// Folder below the root that may contain the split folders.
    pub folder: Option<String>,
    /// Prefixes that are removed from a clip's Url.
    pub url_prefixes: Vec<String>,
    /// Default window of the clips; see [`Schema::default_window`].
    pub window: Option<Window>,
    /// The splits, in order.
    pub splits: Vec<SplitSpec>,
    /// The tasks, in order; at least one.
    pub tasks: Vec<Task>,
    /// Annotated properties other than the tasks.
    pub properties: Vec<Property>,
    /// Fields of an action that exist in the data set but are not read by the schema. `None` if
    /// they are not listed: then any field is accepted.
    pub ignored_fields: Option<Vec<String>>,
    /// Whether SoccerNet's official evaluator supports this data set.
    pub official: bool,
    leave_out: Vec<LeaveOut>,
    defaults: Vec<DefaultRule>,
}

/// A split and the names of its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitSpec {
    /// The name used in options and reports.
    pub name: String,
    /// Folder names in the order in which they are tried, beginning with the name itself.
    pub spellings: Vec<String>,
    /// Whether the split's actions have labels.
    pub labelled: bool,
}

/// One classification task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Name in files and parameter names: letters, digits, underscores.
    pub name: String,
    /// Name in tables.
    pub title: String,
    /// Whether class weights and class-balanced sampling apply to this task.
    pub imbalanced: bool,
    /// The classes, in index order; at least two.
    pub classes: Vec<Class>,
    /// A field and those of its values for which the class is unknown.
    unknown: Option<(String, Vec<String>)>,
}

/// One class of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// The class's name.
    pub name: String,
    /// Field values that are written for this class in prediction files and synthetic data.
    pub write: Fields,
    matches: Condition,
}

/// A categorical property other than the tasks. Index 0 means unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Name in files and parameter names.
    pub name: String,
    /// Name in tables.
    pub title: String,
    /// The annotation field that contains the property.
    pub field: String,
    /// Known values with their spellings; value `k` has index `k + 1`.
    pub values: Vec<Vec<String>>,
    /// Width of the property's embedding as an input of the model.
    pub embedding: usize,
    /// Whether the property may be an input of the model.
    pub input: bool,
    /// Whether the property may be predicted by an auxiliary head.
    pub auxiliary: bool,
}

/// A rule that excludes actions from training and evaluation.
#[derive(Debug, Clone, PartialEq)]
struct LeaveOut {
    reason: String,
    when: Condition,
    unless: Condition,
}

/// Values of a field that are replaced by another value.
#[derive(Debug, Clone, PartialEq)]
struct DefaultRule {
    field: String,
    from: Vec<String>,
    to: String,
}

/// The result of applying the label rules to an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labelled {
    /// One class index per task, in task order; `None` where the class is unknown, but not for all
    /// tasks.
    Labels(Vec<Option<usize>>),
    /// A rule excludes the action.
    LeftOut {
        /// The reason that the rule gives.
        reason: String,
    },
    /// No rule excludes the action, but its values match no class of some task. At least one entry.
    Unknown(Vec<UnknownValue>),
}

/// An annotated value that matches no class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownValue {
    /// Name of the task.
    pub task: String,
    /// Name of the field.
    pub field: String,
    /// Value of the field, as annotated.
    pub value: String,
}

impl Schema {
    /// Returns the built-in schema, `schemas/mvfoul.toml`.
    ///
    /// # Errors
    /// None as long as the built-in file is valid, which a test asserts.
    pub fn mvfoul() -> Result<Self, SchemaError> {
        Self::parse(include_str!("../schemas/mvfoul.toml"), "schemas/mvfoul.toml")
    }

    /// Reads and validates a schema file.
    ///
    /// # Errors
    /// [`SchemaError`] naming the file and the line or entry.
    pub fn load(path: &Path) -> Result<Self, SchemaError> {
        let unreadable = |reason: String| SchemaError::Io { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let text = text::decode(&bytes).map_err(|e| unreadable(e.to_string()))?.text;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses and validates a schema's text; `file` is the name used in errors.
    ///
    /// # Errors
    /// [`SchemaError`] naming the file and the line or entry.
    pub fn parse(text: &str, file: &str) -> Result<Self, SchemaError> {
        validate::resolve(file::parse(text, file)?, file)
    }

    /// Creates the schema of a data set with the given splits and a task for each of the given
    /// fields, whose values are the classes; an empty value means that the class is unknown. `file`
    /// is the name used in errors.
    ///
    /// # Errors
    /// [`SchemaError`] if a field has fewer than two classes.
    pub(crate) fn of_fields(
        name: &str,
        splits: &[SplitSpec],
        tasks: Vec<(String, Vec<String>)>,
        file: &str,
    ) -> Result<Self, SchemaError> {
        validate::resolve(file::of_fields(name, splits, tasks), file)
    }

    /// Applies the label rules to an action's annotated properties.
    ///
    /// ```
    /// use polyview::schema::{Fields, Labelled, Schema};
    /// let text = r#"
    ///     name = "birds"
    ///     title = "Birds"
    ///     split = [{ name = "train" }]
    ///     [[leave_out]]
    ///     reason = "not seen well"
    ///     when = { "Sight" = ["poor"] }
    ///     [[task]]
    ///     name = "species"
    ///     title = "Species"
    ///     field = "Species"
    ///     class = [{ name = "Robin" }, { name = "Great tit" }]
    /// "#;
    /// let schema = Schema::parse(text, "birds.toml")?;
    /// let mut fields = Fields::from([("Species".to_owned(), "Great tit".to_owned())]);
    /// assert_eq!(schema.label(&fields), Labelled::Labels(vec![Some(1)]));
    /// fields.insert("Sight".to_owned(), "poor".to_owned());
    /// assert!(matches!(schema.label(&fields), Labelled::LeftOut { .. }));
    /// # Ok::<(), polyview::schema::SchemaError>(())
    /// ```
    pub fn label(&self, fields: &Fields) -> Labelled {
        if let Some(rule) = self.leave_out.iter().find(|rule| rule.applies(fields)) {
            return Labelled::LeftOut { reason: rule.reason.clone() };
        }
        let resolved = self.apply_defaults(fields);
        let mut labels = Vec::with_capacity(self.tasks.len());
        let mut unknown = Vec::new();
        for task in &self.tasks {
            let class = task.classify(&resolved);
            if class.is_none() && !task.is_unlabelled(&resolved) {
                unknown.extend(task.unknown(&resolved, fields));
            }
            labels.push(class);
        }
        if !unknown.is_empty() {
            Labelled::Unknown(unknown)
        } else if labels.iter().all(Option::is_none) {
            Labelled::LeftOut { reason: "no label".to_owned() }
        } else {
            Labelled::Labels(labels)
        }
    }

    /// Applies the default rules to the fields; each rule is applied to the annotated value.
    fn apply_defaults(&self, fields: &Fields) -> Fields {
        let mut resolved = fields.clone();
        for rule in &self.defaults {
            if is_one_of(fields, &rule.field, &rule.from) {
                resolved.insert(rule.field.clone(), rule.to.clone());
            }
        }
        resolved
    }

    /// Returns the fields that represent one class per task, for prediction files and synthetic
    /// data. `None` if the number of labels is wrong or a label is out of range.
    pub fn write(&self, labels: &[usize]) -> Option<Fields> {
        if labels.len() != self.tasks.len() {
            return None;
        }
        let mut fields = Fields::new();
        for (task, &label) in self.tasks.iter().zip(labels) {
            fields.extend(task.classes.get(label)?.write.clone());
        }
        Some(fields)
    }

    /// Returns the default window of the clips. If the schema does not say when the event happens,
    /// it may be anywhere: training then draws a position in each epoch, and testing uses the
    /// middle.
    pub fn default_window(&self) -> Window {
        self.window.unwrap_or(Window::Dense)
    }

    /// Returns the split with that name, in any of its spellings.
    pub fn split(&self, spelling: &str) -> Option<&SplitSpec> {
        self.splits.iter().find(|split| split.spellings.iter().any(|s| s == spelling))
    }

    /// Returns the index of the task to which class weights and class-balanced sampling apply.
    pub fn imbalanced_task(&self) -> Option<usize> {
        self.tasks.iter().position(|task| task.imbalanced)
    }

    /// Returns the fields that determine labels: those of tasks, exclusion rules and default rules.
    pub fn label_fields(&self) -> BTreeSet<&str> {
        let in_tasks = self.tasks.iter().flat_map(Task::fields);
        let in_rules = self.leave_out.iter().flat_map(|r| r.when.keys().chain(r.unless.keys()));
        let in_defaults = self.defaults.iter().map(|r| &r.field);
        in_tasks.chain(in_rules.chain(in_defaults).map(String::as_str)).collect()
    }

    /// Returns every field that the schema reads.
    pub fn fields(&self) -> BTreeSet<&str> {
        let properties = self.properties.iter().map(|p| p.field.as_str());
        self.label_fields().into_iter().chain(properties).collect()
    }
}

impl LeaveOut {
    fn applies(&self, fields: &Fields) -> bool {
        self.when.iter().all(|(field, values)| is_one_of(fields, field, values))
            && !self.unless.iter().any(|(field, values)| is_one_of(fields, field, values))
    }
}

impl Class {
    fn fits(&self, fields: &Fields) -> bool {
        self.matches.iter().all(|(field, values)| is_one_of(fields, field, values))
    }
}

impl Task {
    /// Returns the names of the classes, in index order.
    pub fn class_names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// Returns the index of the first class that matches the fields (with defaults applied).
    fn classify(&self, resolved: &Fields) -> Option<usize> {
        self.classes.iter().position(|class| class.fits(resolved))
    }

    /// Returns whether a field has one of the values that mark the class as unknown.
    fn is_unlabelled(&self, resolved: &Fields) -> bool {
        let marked = |(field, values): &(String, Vec<String>)| is_one_of(resolved, field, values);
        self.unknown.as_ref().is_some_and(marked)
    }

    /// Returns the fields that determine the class.
    pub fn fields(&self) -> BTreeSet<&str> {
        self.classes.iter().flat_map(|c| c.matches.keys()).map(String::as_str).collect()
    }

    /// Returns, for an action without a class, the values that no class knows or, if every value is
    /// known on its own, all of them.
    fn unknown(&self, resolved: &Fields, annotated: &Fields) -> Vec<UnknownValue> {
        let known = |field: &str| {
            let mut lists = self.classes.iter().filter_map(|class| class.matches.get(field));
            lists.any(|values| is_one_of(resolved, field, values))
        };
        let entry = |field: &str| UnknownValue {
            task: self.name.clone(),
            field: field.to_owned(),
            value: value(annotated, field).to_owned(),
        };
        let fields = self.fields();
        let culprits: Vec<_> = fields.iter().filter(|f| !known(f)).map(|f| entry(f)).collect();
        if culprits.is_empty() { fields.iter().map(|f| entry(f)).collect() } else { culprits }
    }
}

impl Property {
    /// Returns the index of a value: 0 for `""` and values that are not listed, `k + 1` for value
    /// `k`.
    pub fn index_of(&self, value: &str) -> usize {
        self.position(value).map_or(0, |k| k + 1)
    }

    /// Returns the index of an action's value.
    pub fn read(&self, fields: &Fields) -> usize {
        self.index_of(value(fields, &self.field))
    }

    /// Returns whether the value is `""` or listed.
    pub fn knows(&self, value: &str) -> bool {
        value.is_empty() || self.position(value).is_some()
    }

    /// Returns the number of indices, including the one for unknown.
    pub fn size(&self) -> usize {
        self.values.len() + 1
    }

    fn position(&self, value: &str) -> Option<usize> {
        self.values.iter().position(|spellings| spellings.iter().any(|s| s == value))
    }
}
