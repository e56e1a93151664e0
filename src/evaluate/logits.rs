//! Reading a batch's logits back to the host and turning them into predictions.

use burn::tensor::TensorReadError;

use super::ActionPrediction;
use super::calibration::softmax;
use crate::data::Batch;
use crate::device::read_back;
use crate::model::Prediction;

/// A network's output for one action.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ActionLogits {
    /// The annotation's key.
    pub action: String,
    /// Label per task, `None` where it is unknown; empty in a split without labels.
    pub labels: Vec<Option<usize>>,
    /// Logit of each class, per task.
    pub tasks: Vec<Vec<f64>>,
    /// Indices of the views that could be read, among the action's annotated views.
    pub views: Vec<usize>,
    /// Weight of each of these views in the aggregation.
    pub shares: Vec<f64>,
}

impl ActionLogits {
    /// Reads a batch's output back from the device, in the order of its actions.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn read(
        batch: &Batch,
        prediction: &Prediction,
    ) -> Result<Vec<Self>, TensorReadError> {
        let shares = std::slice::from_ref(&prediction.view_weights);
        let all = || shares.iter().chain(&prediction.logits);
        let values = read_back(all().map(|values| values.clone().flatten(0, 1)).collect())?;
        let mut values = values.into_iter().map(f64::from);
        let mut rows = all().map(|of| -> Vec<Vec<f64>> {
            let [rows, width] = of.dims();
            (0..rows).map(|_| values.by_ref().take(width).collect()).collect()
        });
        let shares = rows.next().expect("the weights of the views come first");
        let tasks: Vec<Vec<Vec<f64>>> = rows.collect();
        let mut views = batch.views.iter().copied();
        let actions = batch.actions.iter().zip(&batch.view_counts).enumerate();
        Ok(actions
            .map(|(index, (action, &count))| Self {
                action: action.clone(),
                labels: batch.labels.iter().map(|labels| labels[index]).collect(),
                tasks: tasks.iter().map(|task| task[index].clone()).collect(),
                views: views.by_ref().take(count).collect(),
                shares: shares[index][..count].to_vec(),
            })
            .collect())
    }

    /// Whether all logits and shares are finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.tasks.iter().flatten().chain(&self.shares).all(|value| value.is_finite())
    }

    /// Returns the prediction, with each task's logits divided by its temperature (1 where none is given).
    pub(crate) fn prediction(self, temperatures: &[f64]) -> ActionPrediction {
        let tasks = self.tasks.iter().enumerate();
        let probabilities = tasks
            .map(|(task, logits)| softmax(logits, temperatures.get(task).copied().unwrap_or(1.0)));
        ActionPrediction {
            probabilities: probabilities.collect(),
            action: self.action,
            labels: self.labels,
            views: self.views,
            shares: self.shares,
            averaged: 1,
        }
    }
}
