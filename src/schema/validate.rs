//! The rules that a schema file must keep.

use std::collections::BTreeSet;

use super::file::{DefaultFile, LeaveOutFile, PropertyFile, SchemaFile, SplitFile, TaskFile};
use super::{
    Class, Condition, DefaultRule, LeaveOut, Property, Schema, SchemaError, SplitSpec, Task,
};

/// Makes errors that name the file.
struct Judge<'a> {
    file: &'a str,
}

impl Judge<'_> {
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

    /// Nothing may be listed twice.
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

    /// Names that become parts of files and parameter names.
    fn identifier(&self, entry: &str, name: &str) -> Result<(), SchemaError> {
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let holds = !name.is_empty() && name.chars().all(sound);
        self.demand(holds, entry, "the name must consist of letters, digits and underscores")
    }

    /// One part of a path, so that no schema leads out of the data set's folder.
    fn folder(&self, entry: &str, name: &str) -> Result<(), SchemaError> {
        let holds = !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', ':']);
        self.demand(holds, entry, &format!("{name:?} must be the name of one folder"))
    }

    /// A list of conditions without empty value lists, which could never hold.
    fn condition(&self, entry: &str, key: &str, given: &Condition) -> Result<(), SchemaError> {
        for (field, values) in given {
            let reason = format!("`{key}` lists no value for {field:?}");
            self.demand(!values.is_empty(), entry, &reason)?;
        }
        Ok(())
    }
}

/// Turns the file's form into a schema, or names the first entry that is wrong.
pub(super) fn resolve(raw: SchemaFile, file: &str) -> Result<Schema, SchemaError> {
    let judge = &Judge { file };
    judge.identifier("schema", &raw.name)?;
    for name in raw.layout.folder.iter().chain(&raw.layout.url_prefixes) {
        judge.folder("[layout]", name)?;
    }
    let splits = splits(raw.split, judge)?;
    let leave_out = raw.leave_out.into_iter().map(|rule| leave_out(rule, judge));
    let leave_out = leave_out.collect::<Result<Vec<_>, _>>()?;
    let defaults = defaults(raw.default, judge)?;
    let tasks = tasks(raw.task, judge)?;
    let mut schema = Schema {
        name: raw.name,
        title: raw.title,
        folder: raw.layout.folder,
        url_prefixes: raw.layout.url_prefixes,
        splits,
        tasks,
        properties: Vec::new(),
        leave_out,
        defaults,
    };
    written_values(&schema, judge)?;
    schema.properties = properties(raw.property, &schema, judge)?;
    Ok(schema)
}

fn splits(raw: Vec<SplitFile>, judge: &Judge<'_>) -> Result<Vec<SplitSpec>, SchemaError> {
    judge.demand(!raw.is_empty(), "schema", "at least one [[split]] is needed")?;
    let mut splits = Vec::with_capacity(raw.len());
    for split in raw {
        let entry = format!("split {:?}", split.name);
        let spellings: Vec<_> =
            std::iter::once(split.name.clone()).chain(split.spellings).collect();
        for spelling in &spellings {
            judge.folder(&entry, spelling)?;
        }
        let labelled = split.labelled.unwrap_or(true);
        splits.push(SplitSpec { name: split.name, spellings, labelled });
    }
    let all = splits.iter().flat_map(|split| split.spellings.iter().map(String::as_str));
    judge.unique("splits", "the spelling", all)?;
    Ok(splits)
}

fn leave_out(raw: LeaveOutFile, judge: &Judge<'_>) -> Result<LeaveOut, SchemaError> {
    let entry = format!("leave_out {:?}", raw.reason);
    judge.demand(!raw.reason.is_empty(), &entry, "`reason` must not be empty")?;
    // Without a condition every action would be left out.
    judge.demand(!raw.when.is_empty(), &entry, "`when` must list at least one field")?;
    judge.condition(&entry, "when", &raw.when)?;
    judge.condition(&entry, "unless", &raw.unless)?;
    Ok(LeaveOut { reason: raw.reason, when: raw.when, unless: raw.unless })
}

fn defaults(raw: Vec<DefaultFile>, judge: &Judge<'_>) -> Result<Vec<DefaultRule>, SchemaError> {
    let mut seen = BTreeSet::new();
    for rule in &raw {
        let entry = format!("default for {:?}", rule.field);
        judge.demand(!rule.from.is_empty(), &entry, "`from` lists no value")?;
        for value in &rule.from {
            let reason = format!("{value:?} is replaced twice");
            judge.demand(seen.insert((&rule.field, value)), &entry, &reason)?;
        }
    }
    Ok(raw
        .into_iter()
        .map(|rule| DefaultRule { field: rule.field, from: rule.from, to: rule.to })
        .collect())
}

fn tasks(raw: Vec<TaskFile>, judge: &Judge<'_>) -> Result<Vec<Task>, SchemaError> {
    judge.demand(!raw.is_empty(), "schema", "at least one [[task]] is needed")?;
    judge.unique("tasks", "the name", raw.iter().map(|task| task.name.as_str()))?;
    let imbalanced = raw.iter().filter(|task| task.imbalanced).count();
    judge.demand(imbalanced <= 1, "tasks", "only one task can be marked `imbalanced`")?;
    raw.into_iter().map(|task| resolve_task(task, judge)).collect()
}

fn resolve_task(raw: TaskFile, judge: &Judge<'_>) -> Result<Task, SchemaError> {
    let entry = format!("task {:?}", raw.name);
    judge.identifier(&entry, &raw.name)?;
    judge.demand(raw.class.len() >= 2, &entry, "at least two classes are needed")?;
    judge.unique(&entry, "the class", raw.class.iter().map(|class| class.name.as_str()))?;
    let mut classes = Vec::with_capacity(raw.class.len());
    for class in raw.class {
        let entry = format!("{entry}, class {:?}", class.name);
        let matches = match (class.matches, &raw.field) {
            (Some(matches), _) if !matches.is_empty() => matches,
            (None, Some(field)) => Condition::from([(field.clone(), vec![class.name.clone()])]),
            _ => return judge.refuse(&entry, "give `match` here or `field` in the task"),
        };
        judge.condition(&entry, "match", &matches)?;
        let first = |(field, values): (&String, &Vec<String>)| {
            values.first().map(|value| (field.clone(), value.clone()))
        };
        let write = class.write.unwrap_or_else(|| matches.iter().filter_map(first).collect());
        classes.push(Class { name: class.name, write, matches });
    }
    Ok(Task { name: raw.name, title: raw.title, imbalanced: raw.imbalanced, classes })
}

/// What is written for a class must be read back as that class, and no two tasks may write the
/// same field.
fn written_values(schema: &Schema, judge: &Judge<'_>) -> Result<(), SchemaError> {
    let mut owners = std::collections::BTreeMap::new();
    for (t, task) in schema.tasks.iter().enumerate() {
        for (c, class) in task.classes.iter().enumerate() {
            let entry = format!("task {:?}, class {:?}", task.name, class.name);
            for field in class.write.keys() {
                let owner = *owners.entry(field.as_str()).or_insert(t);
                let reason = format!("the field {field:?} is written by another task too");
                judge.demand(owner == t, &entry, &reason)?;
            }
            let read = task.classify(&schema.settle(&class.write));
            let name = read.and_then(|k| task.classes.get(k)).map_or("no class", |k| &k.name);
            let reason = format!("what it writes is read back as {name:?}");
            judge.demand(read == Some(c), &entry, &reason)?;
        }
    }
    Ok(())
}

fn properties(
    raw: Vec<PropertyFile>,
    schema: &Schema,
    judge: &Judge<'_>,
) -> Result<Vec<Property>, SchemaError> {
    // Tasks and properties share one name space: both become heads.
    let tasks = schema.tasks.iter().map(|task| task.name.as_str());
    judge.unique("properties", "the name", tasks.chain(raw.iter().map(|p| p.name.as_str())))?;
    let label_fields = schema.label_fields();
    for property in &raw {
        let entry = format!("property {:?}", property.name);
        judge.identifier(&entry, &property.name)?;
        judge.demand(property.embedding > 0, &entry, "`embedding` must be at least 1")?;
        let listed = !property.values.is_empty() && property.values.iter().all(|v| !v.is_empty());
        judge.demand(listed, &entry, "`values` must list values, each with a spelling")?;
        let spellings = property.values.iter().flatten().map(String::as_str);
        judge.unique(&entry, "the spelling", spellings.clone())?;
        let reason = "\"\" always counts as unknown and cannot be a value";
        judge.demand(spellings.clone().all(|s| !s.is_empty()), &entry, reason)?;
        let leaks = property.input && label_fields.contains(property.field.as_str());
        let reason = "a field that decides labels cannot be an input: it gives the answer away";
        judge.demand(!leaks, &entry, reason)?;
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
