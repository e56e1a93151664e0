//! Whole training steps.

use std::time::Instant;

use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use serde::Serialize;

use super::{BenchConfig, BenchError, wait};
use crate::device::MemoryWatch;
use crate::kernels::memory::{MemoryPeak, peak_of};
use crate::kernels::with_stock;
use crate::losses::{Targets, cross_entropy};
use crate::model::{Backbone, BackboneKind, Init, parameter_count};
use crate::timing::{median, milliseconds};
use crate::train::{Optimizer, Rule};

/// Median times over the steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTimes {
    /// One training step: forward, loss, backward, AdamW.
    pub step_ms: f64,
    /// Forward pass and loss alone, in training mode.
    pub forward_ms: f64,
    /// Clips per second of training.
    pub clips_per_s: f64,
    /// Time of each step, in order.
    pub steps_ms: Vec<f64>,
    /// Device memory of a step.
    pub memory: StepMemory,
}

/// Device memory that a step takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepMemory {
    /// Estimate by [`MemoryEstimate`](crate::model::MemoryEstimate) for the network and its
    /// optimizer.
    pub estimated: u64,
    /// Measured peak, where our kernels run.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub measured: Option<MemoryPeak>,
}

/// Number of classes of the classifier after the network.
const CLASSES: usize = 8;
/// Number of untimed steps at first, in which kernels are compiled and memory is allocated.
pub(super) const WARM_UP: usize = 2;

#[derive(Module, Debug)]
struct Network {
    backbone: Backbone,
    classifier: Linear,
}

impl Network {
    fn new(kind: BackboneKind, half: bool, device: &Device) -> Self {
        let mut init = Init::new(1, device);
        let backbone = Backbone::new(&mut init, kind).with_half(half);
        Self { backbone, classifier: init.linear(kind.features(), CLASSES) }
    }

    fn loss(&self, clips: Tensor<5>) -> Tensor<1> {
        let targets: Vec<usize> = (0..clips.dims()[0]).map(|clip| clip % CLASSES).collect();
        let logits = self.classifier.forward(self.backbone.forward(clips));
        cross_entropy(logits, &Targets::new(&targets, CLASSES), None, 0.0)
    }
}

impl BenchConfig {
    /// Times training steps on `device`, whose automatic differentiation is off. `done` is called
    /// after each step, including those of the warm-up.
    pub fn steps(&self, device: &Device, done: impl FnMut()) -> Result<StepTimes, BenchError> {
        let time = || self.time(device, done);
        if self.stock { with_stock(time) } else { time() }
    }

    fn time(&self, device: &Device, mut done: impl FnMut()) -> Result<StepTimes, BenchError> {
        let plain = device;
        let device = plain.clone().autodiff();
        let watch = MemoryWatch::start(plain);
        let net = Network::new(self.backbone, self.half, &device);
        let needs = self.memory_needs(&net.backbone, parameter_count(&net))?;
        self.check_memory(&needs, std::slice::from_ref(plain))?;
        self.convolutions(&net.backbone)?;
        let clips = Tensor::<5>::random(self.shape(), Distribution::Normal(0.0, 1.0), &device);
        let rule = Rule::AdamW { beta1: 0.9, weight_decay: 1e-2 };
        let mut optimizer = Optimizer::new(rule, 0.0);
        // Not cloned for a step, so that the step may update the weights in place.
        let mut current = Some(net);
        let mut step = || -> Result<(), BenchError> {
            let net = current.take().expect("no step follows one that failed");
            let loss = net.loss(clips.clone());
            let grads = GradientsParams::from_grads(loss.backward(), &net);
            current = Some(optimizer.step(net, grads, &|_| 1e-4, None)?.0);
            wait(&device, &watch)
        };
        wait(&device, &watch)?;
        let mut steps = Vec::new();
        for _ in 0..self.steps + WARM_UP {
            let start = Instant::now();
            step()?;
            steps.push(milliseconds(start));
            done();
        }
        // A separate step: querying the memory at each launch takes longer than the launch.
        let measured = peak_of(plain, &mut step);
        let measured = measured.map(|(result, peak)| result.map(|()| peak)).transpose()?;
        let net = current.expect("no step failed");
        let mut forward = Vec::new();
        for _ in 0..self.steps {
            let start = Instant::now();
            let loss = net.loss(clips.clone());
            wait(&device, &watch)?;
            forward.push(milliseconds(start));
            // Automatic differentiation keeps what a forward pass has recorded until a backward
            // pass.
            drop(loss.backward());
            wait(&device, &watch)?;
        }
        let steps_ms = steps.split_off(WARM_UP.min(steps.len()));
        let step_ms = median(steps_ms.clone());
        Ok(StepTimes {
            step_ms,
            forward_ms: median(forward),
            clips_per_s: self.clips as f64 * 1e3 / step_ms,
            steps_ms,
            memory: StepMemory {
                estimated: needs.fixed + self.clips as u64 * needs.clip,
                measured,
            },
        })
    }
}
