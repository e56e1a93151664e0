//! What a network says of every action of a data set.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::Serialize;

use crate::data::loader::{Loader, in_order};
use crate::data::{Batch, Dataset};
use crate::model::{MultiViewNet, Prediction};
use crate::train::{TrainError, predict};

/// One action as the network sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// The action's key.
    pub action: String,
    /// Its class per task; empty where it has no label.
    pub labels: Vec<usize>,
    /// Per task the probability of each class.
    pub probabilities: Vec<Vec<f64>>,
    /// Which views were read, counted from 0 as annotated.
    pub views: Vec<usize>,
    /// Each of these views' share in the decision; their sum is 1.
    pub shares: Vec<f64>,
}

impl Judged {
    /// The most probable class of a task, the first one on a tie.
    pub fn predicted(&self, task: usize) -> usize {
        let values = &self.probabilities[task];
        (0..values.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0)
    }

    /// A task's classes with their probabilities, the most probable first.
    pub fn ranked(&self, task: usize) -> Vec<(usize, f64)> {
        let mut ranked: Vec<(usize, f64)> =
            self.probabilities[task].iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }
}

/// Judges every action of `dataset`, `batch_size` at a time, with `workers` decoding threads.
/// `progress` hears how many actions and clips are done. Actions without a readable view are left
/// out.
pub fn judge(
    net: &MultiViewNet,
    dataset: &Arc<Dataset>,
    batch_size: usize,
    workers: usize,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Judged>, TrainError> {
    let net = net.valid();
    let plan = in_order(dataset.samples.len(), batch_size);
    let mut judged = Vec::with_capacity(dataset.samples.len());
    let mut clips = 0;
    for batch in Loader::new(Arc::clone(dataset), plan, workers) {
        let batch = batch?;
        let unknown = vec![vec![0; batch.actions.len()]; net.inputs.len()];
        let prediction = predict(&net, &batch, &unknown, usize::MAX, device)?;
        clips += batch.clips();
        judged.extend(read(batch, prediction)?);
        progress(judged.len(), clips);
    }
    Ok(judged)
}

fn read(batch: Batch, prediction: Prediction) -> Result<Vec<Judged>, TrainError> {
    let rows = |values: Tensor<2>| -> Result<Vec<Vec<f64>>, TrainError> {
        let width = values.dims()[1];
        let values = values.try_into_vec_as::<f32>()?;
        Ok(values.chunks(width).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect())
    };
    let shares = rows(prediction.view_weights)?;
    let tasks: Vec<Vec<Vec<f64>>> = prediction
        .logits
        .into_iter()
        .map(|logits| rows(softmax(logits, 1)))
        .collect::<Result<_, _>>()?;
    let mut views = batch.views.iter().copied();
    let actions = batch.actions.into_iter().zip(&batch.view_counts).enumerate();
    Ok(actions
        .map(|(index, (action, &count))| Judged {
            action,
            labels: batch.labels.iter().map(|labels| labels[index]).collect(),
            probabilities: tasks.iter().map(|task| task[index].clone()).collect(),
            views: views.by_ref().take(count).collect(),
            shares: shares[index][..count].to_vec(),
        })
        .collect())
}
