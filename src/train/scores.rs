//! The logits of a validation pass on the host, for calibration.

use super::error::TrainError;
use crate::data::Batch;
use crate::evaluate::{Calibration, Judged};
use crate::model::Prediction;

/// Collects the logits of the labelled actions of a pass, per task.
#[derive(Debug, Default)]
pub(super) struct ScoreCollector(Vec<Vec<Judged>>);

impl ScoreCollector {
    /// Adds a batch.
    pub(super) fn add(&mut self, batch: &Batch, prediction: &Prediction) -> Result<(), TrainError> {
        self.0.resize(prediction.logits.len(), Vec::new());
        let tasks = self.0.iter_mut().zip(&prediction.logits).zip(&batch.labels);
        for ((scores, logits), labels) in tasks {
            let classes = logits.dims()[1];
            let values = logits.clone().try_into_vec_as::<f32>()?;
            for (row, label) in values.chunks(classes).zip(labels) {
                if let Some(label) = label {
                    scores.push((row.iter().map(|value| f64::from(*value)).collect(), *label));
                }
            }
        }
        Ok(())
    }

    /// The calibration that they ask for.
    pub(super) fn calibration(&self) -> Calibration {
        Calibration::fit(&self.0)
    }
}
