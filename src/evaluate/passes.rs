//! Forward passes of batches through a network, on a device that may run out of memory.

use burn::tensor::Device;

use super::logits::ActionLogits;
use super::{ActionPrediction, EvaluateError, PredictOptions};
use crate::data::Batch;
use crate::device::MemoryWatch;
use crate::model::{MultiViewNet, Prediction};

/// Forward passes of batches through a network.
pub(super) struct Passes<'a> {
    net: &'a MultiViewNet,
    options: &'a PredictOptions,
    device: &'a Device,
    /// Maximum number of clips per pass; lower than in the options once the device has run out of memory.
    most: usize,
    watch: MemoryWatch,
}

impl<'a> Passes<'a> {
    /// Prepares passes through a network that is on the device.
    ///
    /// # Errors
    /// If the device fails, or was out of memory before and may lack some of the network's weights.
    pub(super) fn new(
        net: &'a MultiViewNet,
        options: &'a PredictOptions,
        device: &'a Device,
    ) -> Result<Self, EvaluateError> {
        // The upload of the weights may not have finished.
        let waited = device.sync().map_err(EvaluateError::from);
        let watch = MemoryWatch::start(device);
        match waited {
            _ if watch.out_of_memory() => return Err(EvaluateError::NetworkOutOfMemory),
            Err(error) if error.is_out_of_memory() => {
                return Err(EvaluateError::NetworkOutOfMemory);
            }
            waited => waited?,
        }
        Ok(Self { net, options, device, most: options.max_clips, watch })
    }

    /// Predicts a batch, with its clips as they are or flipped horizontally. If the device is out of
    /// memory, tries again with half as many clips per pass.
    pub(super) fn predict(
        &mut self,
        batch: &Batch,
        flipped: bool,
    ) -> Result<Vec<ActionPrediction>, EvaluateError> {
        loop {
            match self.attempt(batch, flipped) {
                // Out of memory, even if the scores are finite.
                _ if self.watch.out_of_memory() => {}
                Ok(predictions) => {
                    self.watch.intact()?;
                    return Ok(predictions);
                }
                Err(error) if error.is_out_of_memory() => {}
                Err(error) => return Err(error),
            }
            self.watch.recover();
            let clips = self.most.min(batch.clips());
            if clips <= 1 {
                return Err(EvaluateError::OutOfMemory);
            }
            self.most = clips / 2;
            log::warn!(
                "the device is out of memory with {clips} clips per pass: continuing with {} per pass",
                self.most
            );
        }
    }

    fn attempt(
        &self,
        batch: &Batch,
        flipped: bool,
    ) -> Result<Vec<ActionPrediction>, EvaluateError> {
        let annotated = annotated(batch, &self.options.inputs);
        let prediction = match flipped {
            false => self.net.predict(batch, &annotated, self.most, self.device)?,
            true => self.net.predict_flipped(batch, &annotated, self.most, self.device)?,
        };
        read(batch, &prediction, &self.options.temperatures)
    }
}

/// Returns the value indices of the network's annotation inputs, `[input][action]`.
fn annotated(batch: &Batch, inputs: &[usize]) -> Vec<Vec<usize>> {
    let values = |&property: &usize| match batch.properties.as_slice() {
        [] => vec![0; batch.actions.len()],
        properties => properties[property].clone(),
    };
    inputs.iter().map(values).collect()
}

/// Reads a batch's predictions back from the device, with logits divided by each task's temperature.
fn read(
    batch: &Batch,
    prediction: &Prediction,
    temperatures: &[f64],
) -> Result<Vec<ActionPrediction>, EvaluateError> {
    let actions = ActionLogits::read(batch, prediction)?.into_iter();
    let finite = actions.map(|logits| match logits.is_finite() {
        true => Ok(logits.prediction(temperatures)),
        false => Err(EvaluateError::NotFinite { action: logits.action }),
    });
    finite.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
