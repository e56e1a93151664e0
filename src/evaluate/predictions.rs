//! Prediction files in the format of SoccerNet's evaluator and its evaluation server.

use serde_json::{Map, Value};

use crate::schema::Schema;

/// Predictions that cannot be written to a file.
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
}

/// Predictions in the official format: `{"Set": split, "Actions": {id: {field: value}}}`, fields in
/// alphabetical order. Each action comes with one class index per task, in schema order, which is
/// written as the fields that [`Schema::write`] returns. A challenge split has the same format.
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
