//! Writing prediction files: in the format of SoccerNet's evaluator and its evaluation server, and as a
//! table.

use serde_json::{Map, Value};

use super::ActionPrediction;
use crate::schema::Schema;

/// Why predictions cannot be written to a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The labels are not one class index per task of the schema.
    #[error("action {id:?}: the schema has no classes {labels:?}")]
    Labels {
        /// Key of the action.
        id: String,
        /// The class indices.
        labels: Vec<usize>,
    },
    /// An action occurs twice.
    #[error("action {id:?} is predicted twice")]
    Duplicate {
        /// Key of the action.
        id: String,
    },
    /// The table cannot be written, which should not happen.
    #[error("the table of predictions cannot be written: {0}")]
    Table(String),
}

/// Returns predictions as a CSV table with a row per action. Columns: `action`; for each task, `NAME` with
/// the predicted class, `NAME_label` with the annotated one (empty if unknown) and `NAME_confidence` with
/// the probability of the predicted class; then `NAME=CLASS` with the probability of each class of each
/// task.
///
/// # Errors
/// [`WriteError::Table`].
pub fn predictions_csv(
    schema: &Schema,
    predictions: &[ActionPrediction],
) -> Result<String, WriteError> {
    let failed = |error: csv::Error| WriteError::Table(error.to_string());
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["action".to_owned()];
    for task in &schema.tasks {
        let name = &task.name;
        header.extend([name.clone(), format!("{name}_label"), format!("{name}_confidence")]);
    }
    for task in &schema.tasks {
        header.extend(task.classes.iter().map(|class| format!("{}={}", task.name, class.name)));
    }
    table.write_record(&header).map_err(failed)?;
    for prediction in predictions {
        let mut row = vec![prediction.action.clone()];
        for (index, task) in schema.tasks.iter().enumerate() {
            let predicted = prediction.predicted(index);
            let label = prediction.labels.get(index).copied().flatten();
            row.push(task.classes[predicted].name.clone());
            row.push(label.map_or_else(String::new, |label| task.classes[label].name.clone()));
            row.push(prediction.probabilities[index][predicted].to_string());
        }
        row.extend(prediction.probabilities.iter().flatten().map(f64::to_string));
        table.write_record(&row).map_err(failed)?;
    }
    let bytes = table.into_inner().map_err(|error| WriteError::Table(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| WriteError::Table(error.to_string()))
}

/// Returns predictions in the official format: `{"Set": split, "Actions": {id: {field: value}}}`, with
/// fields in alphabetical order. Each action has one class index per task, in schema order, written as the
/// fields that [`Schema::write`] returns. A challenge split has the same format.
///
/// # Errors
/// [`WriteError`].
pub fn write_predictions<'a>(
    schema: &Schema,
    split: &str,
    predictions: impl IntoIterator<Item = (&'a str, &'a [usize])>,
) -> Result<Value, WriteError> {
    let mut actions = Map::new();
    for (id, labels) in predictions {
        let error = || WriteError::Labels { id: id.to_owned(), labels: labels.to_vec() };
        let mut fields = schema.write(labels).ok_or_else(error)?;
        fields.sort_keys();
        let entry = fields.into_iter().map(|(field, value)| (field, Value::String(value)));
        if actions.insert(id.to_owned(), entry.collect()).is_some() {
            return Err(WriteError::Duplicate { id: id.to_owned() });
        }
    }
    let mut file = Map::new();
    file.insert("Set".to_owned(), split.into());
    file.insert("Actions".to_owned(), actions.into());
    Ok(file.into())
}

/// Whether a file that starts with `head` contains predictions, in either format. Annotation files, which
/// have `Actions` too, do not count.
pub(crate) fn are_predictions(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    if let Some(line) = head.lines().next().filter(|line| line.starts_with("action,")) {
        return line.contains("_label,");
    }
    let plain: String = head.chars().filter(|c| !c.is_whitespace()).collect();
    let begins = ["{\"Set\":\"", "{\"Actions\":{"].iter().any(|start| plain.starts_with(start));
    let of_annotations = ["\"Clips\":", "\"Numberofactions\":"];
    begins
        && plain.contains("\"Actions\":{")
        && !of_annotations.iter().any(|key| plain.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_distinguished_from_other_files() {
        for (head, expected) in [
            ("{\n  \"Set\": \"test\",\n  \"Actions\": {\n    \"0\": {", true),
            ("{\"Actions\": {\"0\": {\"Offence\": \"\"}}, \"Set\": \"test\"}", true),
            ("action,action_class,action_class_label,action_class_confidence,", true),
            ("{\"Set\": \"test\", \"Number of actions\": 2, \"Actions\": {", false),
            ("{\"Set\": \"test\", \"Actions\": {\"0\": {\"Clips\": [", false),
            ("[{\"epoch\": 1", false),
            ("action,label\n", false),
            ("batch-size = 8\n", false),
            ("\0\0\0\x18ftypmp42", false),
        ] {
            assert_eq!(are_predictions(head.as_bytes()), expected, "{head}");
        }
    }
}
