//! Restricts a schema to some of its tasks.

use super::{Schema, SchemaError, Task};

impl Schema {
    /// Returns the schema with only the named tasks, in its own order. The fields of the other
    /// tasks become ignored ones, and the official evaluator, which needs all tasks, is no longer
    /// supported.
    ///
    /// # Errors
    /// [`SchemaError::NoTask`].
    pub fn with_tasks(mut self, names: &[String]) -> Result<Self, SchemaError> {
        if let Some(name) = names.iter().find(|&name| self.tasks.iter().all(|t| t.name != *name)) {
            return Err(SchemaError::NoTask {
                name: name.clone(),
                schema: self.name,
                tasks: self.tasks.into_iter().map(|task| task.name).collect(),
            });
        }
        let (kept, left): (Vec<Task>, Vec<Task>) =
            self.tasks.into_iter().partition(|task| names.contains(&task.name));
        self.tasks = kept;
        self.official &= left.is_empty();
        let read: Vec<String> = self.fields().into_iter().map(str::to_owned).collect();
        if let Some(ignored) = &mut self.ignored_fields {
            let fields = left.iter().flat_map(Task::fields).map(str::to_owned);
            for field in fields.filter(|field| !read.contains(field)) {
                if !ignored.contains(&field) {
                    ignored.push(field);
                }
            }
        }
        Ok(self)
    }
}
