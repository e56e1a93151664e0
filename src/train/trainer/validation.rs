//! The validation pass of a trainer.

use std::sync::Arc;

use burn::module::Module;

use super::Trainer;
use super::gradients::largest_lane;
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::device::MemoryWatch;
use crate::evaluate::{EvaluateError, Saliency, saliency};
use crate::model::{MultiViewNet, Prediction};
use crate::report::{PassKind, PassRecord};
use crate::train::average::WeightAverage;
use crate::train::error::TrainError;
use crate::train::metrics::{PassMetrics, PassProgress};
use crate::train::objective::BatchResult;

impl Trainer<'_> {
    /// Validates the network, or the average of its weights if there is one, on every batch of `loader`:
    /// without updates, dropout or augmentation, and with the running statistics of batch norm.
    ///
    /// # Errors
    /// Those of [`Trainer::train_one_epoch`].
    pub fn validate(&mut self, loader: Loader) -> Result<PassRecord, TrainError> {
        self.validate_with(loader, &mut |_, _| Ok(()))
    }

    /// Like [`Trainer::validate`], and calls `inspect` with each batch and its prediction.
    ///
    /// # Errors
    /// Those of [`Trainer::train_one_epoch`] and of `inspect`.
    pub fn validate_with(
        &mut self,
        loader: Loader,
        inspect: &mut dyn FnMut(&Batch, &Prediction) -> Result<(), TrainError>,
    ) -> Result<PassRecord, TrainError> {
        self.swap_average();
        let record = self.validate_network(loader, inspect);
        self.swap_average();
        record
    }

    /// Swaps the weights being trained with their average, if there is one.
    fn swap_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.swap(&mut self.net);
            if let Some(lanes) = &mut self.lanes {
                lanes.mark_replaced();
            }
        }
    }

    fn validate_network(
        &mut self,
        mut loader: Loader,
        inspect: &mut dyn FnMut(&Batch, &Prediction) -> Result<(), TrainError>,
    ) -> Result<PassRecord, TrainError> {
        self.restart_clock();
        self.sync_weights()?;
        let net = self.net().valid();
        let mut watch = MemoryWatch::start(&self.device);
        let mut metrics = PassMetrics::new(PassProgress::new(&self.objective));
        while let Some(batch) = self.wait_for(&mut metrics, &mut loader)? {
            let batch = Arc::new(batch);
            let result = loop {
                match self.evaluate(&net, &batch, &mut watch, inspect)? {
                    Some(result) => break result,
                    None => self.memory.shrink(largest_lane(&batch), &mut watch)?,
                }
            };
            metrics.add_result(&self.objective, &batch, result)?;
            metrics.exchanged = self.exchanged();
            if let Ok(batch) = Arc::try_unwrap(batch) {
                loader.recycle(batch);
            }
            self.observe(&metrics.event(&self.objective, self.epoch, PassKind::Validate));
            if self.stopped() {
                break;
            }
        }
        Ok(metrics.record(&self.objective))
    }

    /// Evaluates a batch and returns its losses and logits; `None` if the device was out of memory.
    fn evaluate(
        &self,
        net: &MultiViewNet,
        batch: &Arc<Batch>,
        watch: &mut MemoryWatch,
        inspect: &mut dyn FnMut(&Batch, &Prediction) -> Result<(), TrainError>,
    ) -> Result<Option<BatchResult>, TrainError> {
        let device = self.device.clone().without_autodiff();
        if self.lanes.is_some() {
            return self.evaluate_in_lanes(net, batch, watch, inspect);
        }
        let annotated = self.objective.annotated(batch);
        let read = || -> Result<_, TrainError> {
            let prediction = net.predict(batch, &annotated, self.memory.micro_batch, &device)?;
            let cost = self.objective.cost(&prediction, batch);
            let losses = cost.read()?;
            Ok((prediction, losses, cost.auxiliary))
        };
        match read() {
            _ if watch.out_of_memory() => Ok(None),
            Ok((prediction, losses, auxiliary)) => {
                watch.intact()?;
                inspect(batch, &prediction)?;
                Ok(Some(BatchResult::new(losses, prediction.logits, auxiliary)))
            }
            Err(error) if error.is_out_of_memory() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Computes a saliency map of each clip in a batch of one action for `class` = `[task, class]`, with
    /// the network that is validated. `None` if the clips do not fit into one pass.
    pub(in crate::train) fn explain(
        &self,
        batch: &Batch,
        class: [usize; 2],
    ) -> Result<Option<Vec<Saliency>>, EvaluateError> {
        if batch.clips() > self.memory.micro_batch {
            return Ok(None);
        }
        let net = self.average.as_ref().map_or(self.net(), WeightAverage::net);
        let device = self.device.clone().without_autodiff();
        saliency(net, batch, &self.objective.annotated(batch), class, &device).map(Some)
    }
}
