//! The JSON description of the model in a page: everything but the values of the weights.

use burn::nn::Linear;
use serde::Serialize;

use super::WebError;
use super::program::{Memory, Program};
use super::weights::{Span, Weights};
use crate::checkpoint::CheckpointInfo;
use crate::data::InputSpec;
use crate::evaluate::Calibration;
use crate::schema::{Schema, Task};

/// Description of the model in an exported page.
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
    /// Programs that run the backbone; the page takes the first that its device supports.
    pub programs: Vec<Program>,
    /// Clips with smaller frames, for which a device may have enough memory.
    pub smaller: Vec<Smaller>,
    /// Size of all weights in bytes.
    pub bytes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct AboutTask {
    pub name: String,
    pub title: String,
    pub classes: Vec<String>,
    /// Temperature that the logits are divided by.
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
    /// The window in the syntax of `--window`.
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

/// Returns the size T, H, W of a clip.
pub(super) fn clip_size(input: &InputSpec) -> [usize; 3] {
    [input.window.frames_per_clip, input.size[0], input.size[1]]
}

/// The layers after the backbone.
#[derive(Debug, Serialize)]
pub(super) struct Network {
    /// The attention's layers, with a ReLU between them; `None` if views are averaged.
    pub attention: Option<[AboutLinear; 2]>,
    /// Row 0, "unknown", of the embedding of each annotated property.
    pub unknown: Vec<Span>,
    /// Layers of each task's head, with a ReLU between them.
    pub heads: Vec<[AboutLinear; 2]>,
}

/// A linear layer, y = x·W + b.
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

/// Description of the model in a server's page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServedAbout<'a> {
    /// Always true, which distinguishes the page from an exported one.
    pub server: bool,
    pub name: &'a str,
    pub backbone: String,
    pub epoch: usize,
    pub tasks: Vec<AboutTask>,
    pub input: AboutInput,
    /// Maximum number of predictions that are averaged.
    pub averaged: usize,
    /// Whether fewer are averaged if the three crops of all clips are the same.
    pub same_crops_count_once: bool,
}

/// A size of clips and the memory that it takes.
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
