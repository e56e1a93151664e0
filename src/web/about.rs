//! What a page knows of its model besides the values of the weights, as JSON.

use burn::nn::Linear;
use serde::Serialize;

use super::WebError;
use super::program::{Memory, Program};
use super::weights::{Span, Weights};
use crate::checkpoint::CheckpointInfo;
use crate::data::InputSpec;
use crate::evaluate::Calibration;
use crate::schema::{Schema, Task};

/// What the page knows besides the values of the weights.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub polyview: &'static str,
    /// The checkpoint's name.
    pub name: String,
    pub backbone: String,
    pub epoch: usize,
    pub tasks: Vec<AboutTask>,
    pub input: AboutInput,
    /// Whether weights are f16.
    pub half: bool,
    pub network: Network,
    /// Ways to run the backbone; a page takes the first that its device can.
    pub programs: Vec<Program>,
    /// Clips of smaller frames, for which a device may have memory enough.
    pub smaller: Vec<Smaller>,
    /// Bytes of all weights.
    pub bytes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct AboutTask {
    pub name: String,
    pub title: String,
    pub classes: Vec<String>,
    /// By which the logits are divided.
    pub temperature: f64,
}

impl AboutTask {
    pub(super) fn new(task: &Task, temperature: f64) -> Self {
        let classes = task.classes.iter().map(|class| class.name.clone()).collect();
        Self { name: task.name.clone(), title: task.title.clone(), classes, temperature }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AboutInput {
    /// T, H, W.
    pub size: [usize; 3],
    /// As `--window` takes it.
    pub window: String,
    pub target_fps: f64,
    pub max_views: Option<usize>,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl AboutInput {
    pub(super) fn new(info: &CheckpointInfo, input: &InputSpec) -> Self {
        let [mean, std] = info.model.backbone.clip_statistics();
        Self {
            size: clip_size(input),
            window: input.window.window.to_string(),
            target_fps: input.window.target_fps,
            max_views: input.max_views,
            mean,
            std,
        }
    }
}

/// T, H, W.
pub(super) fn clip_size(input: &InputSpec) -> [usize; 3] {
    [input.window.frames_per_clip, input.size[0], input.size[1]]
}

/// What follows the backbone.
#[derive(Debug, Serialize)]
pub(super) struct Network {
    /// Attention's layers, a ReLU between them; without, views are averaged.
    pub attention: Option<[AboutLinear; 2]>,
    /// Row 0, "unknown", of the embedding of each annotated property.
    pub unknown: Vec<Span>,
    /// Layers of each task, a ReLU between them.
    pub heads: Vec<[AboutLinear; 2]>,
}

/// y = x·W + b.
#[derive(Debug, Serialize)]
pub(super) struct AboutLinear {
    /// `[inputs, outputs]`.
    pub weight: Span,
    /// `[outputs]`.
    pub bias: Option<Span>,
    pub inputs: usize,
    pub outputs: usize,
}

impl AboutLinear {
    pub(super) fn new(linear: &Linear, weights: &mut Weights) -> Result<Self, WebError> {
        let [inputs, outputs] = linear.weight.val().dims();
        let bias = linear.bias.as_ref().map(|bias| weights.push(bias.val())).transpose()?;
        Ok(Self { weight: weights.push(linear.weight.val())?, bias, inputs, outputs })
    }

    pub(super) fn pair(
        [first, second]: [&Linear; 2],
        weights: &mut Weights,
    ) -> Result<[Self; 2], WebError> {
        Ok([Self::new(first, weights)?, Self::new(second, weights)?])
    }
}

/// What the page of a server knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServedAbout<'a> {
    /// True, by which the page tells.
    pub server: bool,
    pub name: &'a str,
    pub backbone: String,
    pub epoch: usize,
    pub tasks: Vec<AboutTask>,
    pub input: AboutInput,
    /// Number of predictions of which the answer is the mean.
    pub averaged: usize,
    /// Whether they are fewer where the crops of all clips are the same.
    pub same_crops_count_once: bool,
}

/// A size of clips and what it takes.
#[derive(Debug, Serialize)]
pub(super) struct Smaller {
    /// T, H, W.
    pub size: [usize; 3],
    pub memory: Memory,
}

pub(super) fn tasks(info: &CheckpointInfo, schema: &Schema) -> Vec<AboutTask> {
    let temperatures = info.calibration.as_ref().map_or_else(Vec::new, Calibration::temperatures);
    let task = |(at, task): (usize, &Task)| {
        AboutTask::new(task, temperatures.get(at).copied().unwrap_or(1.0))
    };
    schema.tasks.iter().enumerate().map(task).collect()
}
