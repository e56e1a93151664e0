//! Writes a schema as the text of a schema file.

use std::fmt::Write as _;

use indexmap::IndexMap;
use toml::Value;

use super::{Class, Condition, Fields, Schema, Task};

impl Schema {
    /// Returns the text of a schema file that describes this schema.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        line(&mut text, "name", &self.name);
        line(&mut text, "title", &self.title);
        if self.official {
            text.push_str("official = true\n");
        }
        if let Some(fields) = &self.ignored_fields {
            let _ = writeln!(text, "ignored_fields = {}", list(fields));
        }
        if self.folder.is_some() || !self.url_prefixes.is_empty() {
            text.push_str("\n[layout]\n");
            if let Some(folder) = &self.folder {
                line(&mut text, "folder", folder);
            }
            let _ = writeln!(text, "url_prefixes = {}", list(&self.url_prefixes));
        }
        if let Some(window) = self.window {
            text.push_str("\n[clips]\n");
            line(&mut text, "window", &window.to_string());
        }
        for split in &self.splits {
            text.push_str("\n[[split]]\n");
            line(&mut text, "name", &split.name);
            let spellings: Vec<String> = split.spellings[1..].to_vec();
            let _ = writeln!(text, "spellings = {}", list(&spellings));
            if !split.labelled {
                text.push_str("labelled = false\n");
            }
        }
        for rule in &self.leave_out {
            text.push_str("\n[[leave_out]]\n");
            line(&mut text, "reason", &rule.reason);
            let _ = writeln!(text, "when = {}", condition(&rule.when));
            let _ = writeln!(text, "unless = {}", condition(&rule.unless));
        }
        for rule in &self.defaults {
            text.push_str("\n[[default]]\n");
            line(&mut text, "field", &rule.field);
            let _ = writeln!(text, "from = {}", list(&rule.from));
            line(&mut text, "to", &rule.to);
        }
        self.tasks.iter().for_each(|task| write_task(&mut text, task));
        for property in &self.properties {
            text.push_str("\n[[property]]\n");
            line(&mut text, "name", &property.name);
            line(&mut text, "title", &property.title);
            line(&mut text, "field", &property.field);
            let values: Vec<String> = property.values.iter().map(|v| list(v)).collect();
            let _ = writeln!(text, "values = [{}]", values.join(", "));
            let _ = writeln!(text, "embedding = {}", property.embedding);
            let _ = writeln!(text, "input = {}", property.input);
            let _ = writeln!(text, "auxiliary = {}", property.auxiliary);
        }
        text
    }
}

fn write_task(text: &mut String, task: &Task) {
    text.push_str("\n[[task]]\n");
    line(text, "name", &task.name);
    line(text, "title", &task.title);
    if task.imbalanced {
        text.push_str("imbalanced = true\n");
    }
    let field = common_field(task);
    if let Some(field) = field {
        line(text, "field", field);
    }
    if let Some((_, values)) = &task.unknown {
        let _ = writeln!(text, "unknown = {}", list(values));
    }
    text.push_str("class = [\n");
    for class in &task.classes {
        let _ = write!(text, "    {{ name = {}", quoted(&class.name));
        // Anything that follows from the task's field is omitted.
        if field.is_none_or(|field| !is_plain(class, field)) {
            let _ = write!(text, ", match = {}", condition(&class.matches));
            let _ = write!(text, ", write = {}", fields(&class.write));
        }
        text.push_str(" },\n");
    }
    text.push_str("]\n");
}

/// Returns the field that the task reads, if it is a single one.
fn common_field(task: &Task) -> Option<&str> {
    match (&task.unknown, task.fields().into_iter().collect::<Vec<_>>().as_slice()) {
        (Some((field, _)), _) => Some(field),
        (None, [field]) => Some(field),
        _ => None,
    }
}

/// Returns whether a class is fully described by its name and the task's field.
fn is_plain(class: &Class, field: &str) -> bool {
    let matches = Condition::from([(field.to_owned(), vec![class.name.clone()])]);
    let write = Fields::from([(field.to_owned(), class.name.clone())]);
    class.matches == matches && class.write == write
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {}", quoted(value));
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

fn table<V>(entries: &IndexMap<String, V>, value: impl Fn(&V) -> String) -> String {
    let entry = |(field, v): (&String, &V)| format!("{} = {}", quoted(field), value(v));
    let entries: Vec<String> = entries.iter().map(entry).collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

fn condition(given: &Condition) -> String {
    table(given, |values| list(values))
}

fn fields(given: &Fields) -> String {
    table(given, |value| quoted(value))
}
