//! Validation of schema files.

use std::collections::BTreeSet;

use super::file::{DefaultFile, LeaveOutFile, PropertyFile, SchemaFile, SplitFile, TaskFile};
use super::{
    Class, Condition, DefaultRule, Fields, LeaveOut, Property, Schema, SchemaError, SplitSpec, Task,
};

/// Creates errors that name the file.
struct Validator<'a> {
    file: &'a str,
}

impl Validator<'_> {
    fn refuse<T>(&self, entry: &str, reason: impl Into<String>) -> Result<T, SchemaError> {
        Err(SchemaError::Entry {
            file: self.file.to_owned(),
            entry: entry.to_owned(),
            reason: reason.into(),
        })
    }

    fn demand(&self, holds: bool, entry: &str, reason: &str) -> Result<(), SchemaError> {
        if holds { Ok(()) } else { self.refuse(entry, reason) }
    }

    /// Refuses names that occur twice.
    fn unique<'a>(
        &self,
        entry: &str,
        what: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), SchemaError> {
        let mut seen = BTreeSet::new();
        for name in names {
            self.demand(seen.insert(name), entry, &format!("{what} {name:?} occurs twice"))?;
        }
        Ok(())
    }

    /// Refuses names that cannot be part of file and parameter names.
    fn identifier(&self, entry: &str, name: &str) -> Result<(), SchemaError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let holds = !name.is_empty() && name.chars().all(valid);
        self.demand(holds, entry, "the name must consist of letters, digits and underscores")
    }

    /// Refuses anything but a single path component, so that a schema cannot point outside the data
    /// set's folder.
    fn folder(&self, entry: &str, name: &str) -> Result<(), SchemaError> {
        let holds = !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', ':']);
        self.demand(holds, entry, &format!("{name:?} must be the name of one folder"))
    }

    /// Refuses conditions with an empty list of values, which could never be met.
    fn condition(&self, entry: &str, key: &str, given: &Condition) -> Result<(), SchemaError> {
        for (field, values) in given {
            let reason = format!("`{key}` lists no value for {field:?}");
            self.demand(!values.is_empty(), entry, &reason)?;
        }
        Ok(())
    }
}

/// Converts a parsed file into a schema; an error describes the first invalid entry.
pub(super) fn resolve(raw: SchemaFile, file: &str) -> Result<Schema, SchemaError> {
    let check = &Validator { file };
    check.identifier("schema", &raw.name)?;
    for name in raw.layout.folder.iter().chain(&raw.layout.url_prefixes) {
        check.folder("[layout]", name)?;
    }
    let splits = splits(raw.split, check)?;
    let leave_out = raw.leave_out.into_iter().map(|rule| leave_out(rule, check));
    let leave_out = leave_out.collect::<Result<Vec<_>, _>>()?;
    let defaults = defaults(raw.default, check)?;
    let tasks = tasks(raw.task, check)?;
    let mut schema = Schema {
        name: raw.name,
        title: raw.title,
        folder: raw.layout.folder,
        url_prefixes: raw.layout.url_prefixes,
        window: raw.clips.window,
        splits,
        tasks,
        properties: Vec::new(),
        ignored_fields: raw.ignored_fields,
        official: raw.official,
        leave_out,
        defaults,
    };
    written_values(&schema, check)?;
    schema.properties = properties(raw.property, &schema, check)?;
    ignored_fields(&schema, check)?;
    Ok(schema)
}

/// Refuses ignored fields that are listed twice or are actually read.
fn ignored_fields(schema: &Schema, check: &Validator<'_>) -> Result<(), SchemaError> {
    let ignored = || schema.ignored_fields.iter().flatten().map(String::as_str);
    check.unique("ignored_fields", "the field", ignored())?;
    let fields = schema.fields();
    match ignored().find(|field| fields.contains(field)) {
        Some(field) => {
            check.refuse("ignored_fields", format!("{field:?} is read by a task, rule or property"))
        }
        None => Ok(()),
    }
}

fn splits(raw: Vec<SplitFile>, check: &Validator<'_>) -> Result<Vec<SplitSpec>, SchemaError> {
    check.demand(!raw.is_empty(), "schema", "at least one [[split]] is needed")?;
    let mut splits = Vec::with_capacity(raw.len());
    for split in raw {
        let entry = format!("split {:?}", split.name);
        let spellings: Vec<_> =
            std::iter::once(split.name.clone()).chain(split.spellings).collect();
        for spelling in &spellings {
            check.folder(&entry, spelling)?;
        }
        let labelled = split.labelled.unwrap_or(true);
        splits.push(SplitSpec { name: split.name, spellings, labelled });
    }
    let all = splits.iter().flat_map(|split| split.spellings.iter().map(String::as_str));
    check.unique("splits", "the spelling", all)?;
    Ok(splits)
}

fn leave_out(raw: LeaveOutFile, check: &Validator<'_>) -> Result<LeaveOut, SchemaError> {
    let entry = format!("leave_out {:?}", raw.reason);
    check.demand(!raw.reason.is_empty(), &entry, "`reason` must not be empty")?;
    // Without a condition the rule would exclude every action.
    check.demand(!raw.when.is_empty(), &entry, "`when` must list at least one field")?;
    check.condition(&entry, "when", &raw.when)?;
    check.condition(&entry, "unless", &raw.unless)?;
    Ok(LeaveOut { reason: raw.reason, when: raw.when, unless: raw.unless })
}

fn defaults(raw: Vec<DefaultFile>, check: &Validator<'_>) -> Result<Vec<DefaultRule>, SchemaError> {
    let mut seen = BTreeSet::new();
    for rule in &raw {
        let entry = format!("default for {:?}", rule.field);
        check.demand(!rule.from.is_empty(), &entry, "`from` lists no value")?;
        for value in &rule.from {
            let reason = format!("{value:?} is replaced twice");
            check.demand(seen.insert((&rule.field, value)), &entry, &reason)?;
        }
    }
    Ok(raw
        .into_iter()
        .map(|rule| DefaultRule { field: rule.field, from: rule.from, to: rule.to })
        .collect())
}

fn tasks(raw: Vec<TaskFile>, check: &Validator<'_>) -> Result<Vec<Task>, SchemaError> {
    check.demand(!raw.is_empty(), "schema", "at least one [[task]] is needed")?;
    check.unique("tasks", "the name", raw.iter().map(|task| task.name.as_str()))?;
    let imbalanced = raw.iter().filter(|task| task.imbalanced).count();
    check.demand(imbalanced <= 1, "tasks", "only one task can be marked `imbalanced`")?;
    raw.into_iter().map(|task| resolve_task(task, check)).collect()
}

fn resolve_task(raw: TaskFile, check: &Validator<'_>) -> Result<Task, SchemaError> {
    let entry = format!("task {:?}", raw.name);
    check.identifier(&entry, &raw.name)?;
    check.demand(raw.class.len() >= 2, &entry, "at least two classes are needed")?;
    check.unique(&entry, "the class", raw.class.iter().map(|class| class.name.as_str()))?;
    let unknown = match &raw.field {
        _ if raw.unknown.is_empty() => None,
        Some(field) => Some((field.clone(), raw.unknown)),
        None => {
            return check.refuse(&entry, "`unknown` lists values of `field`, which is missing");
        }
    };
    let mut classes = Vec::with_capacity(raw.class.len());
    for class in raw.class {
        let entry = format!("{entry}, class {:?}", class.name);
        let matches = match (class.matches, &raw.field) {
            (Some(matches), _) if !matches.is_empty() => matches,
            (None, Some(field)) => Condition::from([(field.clone(), vec![class.name.clone()])]),
            _ => return check.refuse(&entry, "give `match` here or `field` in the task"),
        };
        check.condition(&entry, "match", &matches)?;
        let first = |(field, values): (&String, &Vec<String>)| {
            values.first().map(|value| (field.clone(), value.clone()))
        };
        let write = class.write.unwrap_or_else(|| matches.iter().filter_map(first).collect());
        classes.push(Class { name: class.name, write, matches });
    }
    let task =
        Task { name: raw.name, title: raw.title, imbalanced: raw.imbalanced, classes, unknown };
    for value in task.unknown.iter().flat_map(|(_, values)| values) {
        let field = raw.field.clone().unwrap_or_default();
        let class = task.classify(&Fields::from([(field, value.clone())]));
        let name = class.map_or("", |class| &task.classes[class].name);
        let reason = format!("`unknown` lists {value:?}, which is the class {name:?}");
        check.demand(class.is_none(), &entry, &reason)?;
    }
    Ok(task)
}

/// Refuses a class whose written fields are not read back as that class, and a field that is
/// written by two tasks.
fn written_values(schema: &Schema, check: &Validator<'_>) -> Result<(), SchemaError> {
    let mut owners = std::collections::BTreeMap::new();
    for (t, task) in schema.tasks.iter().enumerate() {
        for (c, class) in task.classes.iter().enumerate() {
            let entry = format!("task {:?}, class {:?}", task.name, class.name);
            for field in class.write.keys() {
                let owner = *owners.entry(field.as_str()).or_insert(t);
                let reason = format!("the field {field:?} is also written by another task");
                check.demand(owner == t, &entry, &reason)?;
            }
            let read = task.classify(&schema.apply_defaults(&class.write));
            let name = read.and_then(|k| task.classes.get(k)).map_or("no class", |k| &k.name);
            let reason = format!("the fields that it writes are read back as {name:?}");
            check.demand(read == Some(c), &entry, &reason)?;
        }
    }
    Ok(())
}

fn properties(
    raw: Vec<PropertyFile>,
    schema: &Schema,
    check: &Validator<'_>,
) -> Result<Vec<Property>, SchemaError> {
    // Tasks and properties share one namespace: both become heads.
    let tasks = schema.tasks.iter().map(|task| task.name.as_str());
    check.unique("properties", "the name", tasks.chain(raw.iter().map(|p| p.name.as_str())))?;
    let label_fields = schema.label_fields();
    for property in &raw {
        let entry = format!("property {:?}", property.name);
        check.identifier(&entry, &property.name)?;
        check.demand(property.embedding > 0, &entry, "`embedding` must be at least 1")?;
        let listed = !property.values.is_empty() && property.values.iter().all(|v| !v.is_empty());
        check.demand(listed, &entry, "`values` must list values, each with a spelling")?;
        let spellings = property.values.iter().flatten().map(String::as_str);
        check.unique(&entry, "the spelling", spellings.clone())?;
        let reason = "\"\" always counts as unknown and cannot be a value";
        check.demand(spellings.clone().all(|s| !s.is_empty()), &entry, reason)?;
        let leaks = property.input && label_fields.contains(property.field.as_str());
        let reason = "a field that determines labels cannot be an input: it contains the answer";
        check.demand(!leaks, &entry, reason)?;
    }
    let property = |p: PropertyFile| Property {
        name: p.name,
        title: p.title,
        field: p.field,
        values: p.values,
        embedding: p.embedding,
        input: p.input,
        auxiliary: p.auxiliary,
    };
    Ok(raw.into_iter().map(property).collect())
}
