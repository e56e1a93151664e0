//! The predictions of a trained network for the actions of a data set.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use super::averaging::Sums;
use super::passes::Passes;
use super::{Averaging, EvaluateError, Thresholds};
use crate::data::loader::{Loader, in_order};
use crate::data::resize::Crop;
use crate::data::{Dataset, Plan};
use crate::device::DeviceInfo;
use crate::metrics::largest;
use crate::model::{MemoryEstimate, ModelConfig, MultiViewNet, StageSet, parameter_count};
use crate::schema::Schema;

/// The prediction for one action.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionPrediction {
    /// The annotation's key.
    pub action: String,
    /// Label per task, `None` where it is unknown; empty in a split without labels.
    pub labels: Vec<Option<usize>>,
    /// Probability of each class, per task.
    pub probabilities: Vec<Vec<f64>>,
    /// Indices of the views that could be read, among the action's annotated views.
    pub views: Vec<usize>,
    /// Weight of each of these views in the aggregation; their sum is 1.
    pub shares: Vec<f64>,
    /// Number of predictions averaged.
    pub averaged: usize,
}

impl ActionPrediction {
    /// Returns the most probable class of a task, the first one on a tie.
    pub fn predicted(&self, task: usize) -> usize {
        largest(&self.probabilities[task])
    }

    /// Returns the probability of a task's most probable class.
    pub fn confidence(&self, task: usize) -> f64 {
        self.probabilities[task][self.predicted(task)]
    }

    /// Returns a task's classes with their probabilities, the most probable first.
    pub fn ranked(&self, task: usize) -> Vec<(usize, f64)> {
        let mut ranked: Vec<(usize, f64)> =
            self.probabilities[task].iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }
}

/// How a data set is passed through a network.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictOptions {
    /// Number of actions per batch.
    pub batch_size: usize,
    /// Number of decoding threads; 0 decodes in the calling thread.
    pub workers: usize,
    /// Maximum number of clips per forward pass of the backbone, at least 1; see
    /// [`clips_per_pass`]. It is lowered if the device runs out of memory.
    pub max_clips: usize,
    /// Schema properties that are the network's annotation inputs; see [`annotation_inputs`]. Without
    /// annotations their values are unknown.
    pub inputs: Vec<usize>,
    /// Readings that are averaged for each action.
    pub averaging: Averaging,
    /// Temperatures that the logits of each task are divided by, see
    /// [`Calibration`](super::Calibration); empty for none.
    pub temperatures: Vec<f64>,
    /// Thresholds that the probabilities of each task are divided by, see [`Thresholds`]; empty for none.
    pub thresholds: Vec<Thresholds>,
}

/// Returns the number of clips of `size` `[T, H, W]`, at least 1, whose forward pass fits into a device's
/// free memory and keeps its launches short, by the same estimate as for validation during training.
/// `None` if clips of this size are too small for the network.
pub fn clips_per_pass(net: &MultiViewNet, size: [usize; 3], device: &DeviceInfo) -> Option<usize> {
    let parameters = parameter_count(net);
    let needs = MemoryEstimate::training(&net.backbone, parameters, size, StageSet::NONE, false)?;
    let clips = needs
        .clips(device.planned_bytes(), device.max_binding_bytes)
        .min(needs.clips_per_launch(device.launch_operations()));
    Some(usize::try_from(clips).unwrap_or(usize::MAX).max(1))
}

/// Returns the index of the schema's property for each annotation input of a network. `None` if the schema
/// lacks one of them, or lists a different number of values for it.
pub fn annotation_inputs(model: &ModelConfig, schema: &Schema) -> Option<Vec<usize>> {
    let index = |input: &crate::model::AnnotationInput| {
        let same = |p: &crate::schema::Property| p.name == input.name && p.size() == input.size;
        schema.properties.iter().position(same)
    };
    model.inputs.iter().map(index).collect()
}

/// Predicts every action of `dataset`. Actions without a readable view are left out. `progress` is
/// called after each batch with the number of actions read so far, each once in every
/// [pass](Averaging::passes), and the number of clips predicted.
///
/// # Errors
/// If data cannot be read, or if the device fails or cannot hold a single clip.
pub fn predict_dataset(
    net: &MultiViewNet,
    dataset: &Arc<Dataset>,
    options: &PredictOptions,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<ActionPrediction>, EvaluateError> {
    let net = net.valid();
    let mut passes = Passes::new(&net, options, device)?;
    let plan = Plan::from(in_order(dataset.samples.len(), options.batch_size));
    let mut sums = Sums::new(dataset);
    let (mut actions, mut clips) = (0, 0);
    for reading in options.averaging.readings() {
        if reading.crop != Crop::Middle && !dataset.has_cropped() {
            log::info!("every clip has the input's aspect ratio: its three crops are the same");
            break;
        }
        let mut next = 0;
        let plan = plan.clone().reading(reading);
        for batch in Loader::new(Arc::clone(dataset), plan, options.workers) {
            let batch = batch?;
            let first = next;
            next = sums.add(first, passes.predict(&batch, false)?);
            clips += batch.clips();
            if options.averaging.flip {
                sums.add(first, passes.predict(&batch, true)?);
                clips += batch.clips();
            }
            actions += batch.actions.len();
            progress(actions, clips);
        }
    }
    let mut predictions = sums.means();
    for prediction in &mut predictions {
        let tasks = prediction.probabilities.iter_mut().zip(&options.thresholds);
        tasks.for_each(|(probabilities, thresholds)| thresholds.apply(probabilities));
    }
    Ok(predictions)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::BackboneKind;

    #[test]
    fn the_clips_per_pass_follow_from_the_memory() {
        let schema = Schema::mvfoul().unwrap();
        let net = ModelConfig::new(BackboneKind::R3dTiny, &schema).init(1, &Device::flex());
        // A device without a limit on its launches.
        let mut info = crate::device::open("cpu").unwrap().info;
        info.api = "cuda".to_owned();
        let clips = |free_bytes, max_binding_bytes| {
            let info = DeviceInfo { free_bytes, max_binding_bytes, ..info.clone() };
            clips_per_pass(&net, [4, 32, 32], &info)
        };
        assert_eq!(clips(None, None), Some(usize::MAX));
        // One clip is always tried.
        assert_eq!((clips(Some(0), None), clips(None, Some(0))), (Some(1), Some(1)));
        let [some, more] = [50_000_000, 100_000_000].map(|free| clips(Some(free), None).unwrap());
        assert!(1 < some && some < more && more < 100_000, "{some}, {more}");
        assert!(clips(Some(100_000_000), Some(1 << 20)).unwrap() < more);
        // A GPU that may be slow gets fewer clips per pass, and so does one whose memory is unknown.
        let of = |kind: &str, api: &str, size| {
            let (kind, api) = (kind.to_owned(), api.to_owned());
            let info = DeviceInfo { kind, api, free_bytes: None, ..info.clone() };
            clips_per_pass(&net, size, &info).unwrap()
        };
        let unlimited = of("discrete", "cuda", [4, 32, 32]);
        let [small, large] =
            [[16, 224, 224], [64, 896, 896]].map(|size| of("integrated", "cuda", size));
        assert!(large < small && small < unlimited, "{large}, {small}");
        assert_eq!(of("integrated", "cuda", [512, 2048, 2048]), 1);
        assert!(of("discrete", "dx12", [4, 32, 32]) < unlimited);
    }
}
