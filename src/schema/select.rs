//! A schema of some of the tasks.

use super::{Schema, SchemaError, Task};

impl Schema {
    /// The schema with these of its tasks alone, in its own order. The fields of the others are none that
    /// it does not know, and the official evaluator, which wants all tasks, has nothing to say of it.
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
