//! How long a training step takes on a device, and each convolution in it.

use std::time::Instant;

use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, ExecutionError, Tensor};
use serde::Serialize;

use crate::conv::{ConvShape, conv3d};
use crate::kernels::with_stock;
use crate::losses::cross_entropy;
use crate::model::{Backbone, BackboneKind, Init};
use crate::train::{Optimizer, Rule, TrainError};

/// What is timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchConfig {
    /// The network; a linear classifier follows it.
    pub backbone: BackboneKind,
    /// N.
    pub clips: usize,
    /// T, H, W.
    pub size: [usize; 3],
    /// Steps that count; as many forward passes.
    pub steps: usize,
    /// With Burn's own operations in place of ours.
    pub stock: bool,
}

/// Why nothing was timed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(#[from] ExecutionError),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] TrainError),
    /// The clips leave nothing for the last stage to convolve.
    #[error("clips of {0:?} are too small for the network")]
    TooSmall([usize; 3]),
}

/// Medians over the steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTimes {
    /// One training step: forward, loss, backward, AdamW.
    pub step_ms: f64,
    /// Forward and loss alone, while training.
    pub forward_ms: f64,
    /// Clips per second of training.
    pub clips_per_s: f64,
    /// Each step, in order.
    pub steps_ms: Vec<f64>,
}

/// One convolution of the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerTimes {
    /// `N×C×T×H×W → K, kernel, stride`.
    pub shape: String,
    /// How often the network has it.
    pub count: usize,
    /// 10⁹ floating-point operations of one pass.
    pub gflop: f64,
    /// Median milliseconds of forward, input gradient, weight gradient.
    pub ms: [f64; 3],
    /// 10⁹ operations per second of each.
    pub gflop_per_s: [f64; 3],
}

/// Classes of the classifier after the network.
const CLASSES: usize = 8;
/// Steps before those that count: kernels are compiled and memory is taken in them.
const WARM_UP: usize = 2;

#[derive(Module, Debug)]
struct Network {
    backbone: Backbone,
    classifier: Linear,
}

impl Network {
    fn new(kind: BackboneKind, device: &Device) -> Self {
        let mut init = Init::new(1, device);
        let backbone = Backbone::new(&mut init, kind);
        Self { backbone, classifier: init.linear(kind.features(), CLASSES) }
    }

    fn loss(&self, clips: Tensor<5>) -> Tensor<1> {
        let targets: Vec<usize> = (0..clips.dims()[0]).map(|clip| clip % CLASSES).collect();
        let logits = self.classifier.forward(self.backbone.forward(clips));
        cross_entropy(logits, &targets, None, 0.0)
    }
}

impl BenchConfig {
    fn shape(&self) -> [usize; 5] {
        let [t, h, w] = self.size;
        [self.clips, 3, t, h, w]
    }

    fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        if self.stock { with_stock(work) } else { work() }
    }

    /// Times training steps on `device`, whose automatic differentiation is off. `done` hears of
    /// each step that is over, the warm-up's included.
    pub fn steps(&self, device: &Device, done: impl FnMut()) -> Result<StepTimes, BenchError> {
        self.run(|| self.time_steps(device, done))
    }

    fn time_steps(&self, device: &Device, mut done: impl FnMut()) -> Result<StepTimes, BenchError> {
        let device = device.clone().autodiff();
        let mut net = Network::new(self.backbone, &device);
        self.check(&net)?;
        let clips = Tensor::<5>::random(self.shape(), Distribution::Normal(0.0, 1.0), &device);
        let rule = Rule::AdamW { beta1: 0.9, weight_decay: 1e-2 };
        let mut optimizer = Optimizer::new(rule, 0.0);
        device.sync()?;
        let mut steps = Vec::new();
        for _ in 0..self.steps + WARM_UP {
            let start = Instant::now();
            let loss = net.loss(clips.clone());
            let grads = GradientsParams::from_grads(loss.backward(), &net);
            net = optimizer.step(net, grads, &|_| 1e-4, None)?.0;
            device.sync()?;
            steps.push(milliseconds(start));
            done();
        }
        let mut forward = Vec::new();
        for _ in 0..self.steps {
            let start = Instant::now();
            let loss = net.loss(clips.clone());
            device.sync()?;
            forward.push(milliseconds(start));
            drop(loss);
        }
        let steps_ms = steps.split_off(WARM_UP.min(steps.len()));
        let step_ms = median(steps_ms.clone());
        Ok(StepTimes {
            step_ms,
            forward_ms: median(forward),
            clips_per_s: self.clips as f64 * 1e3 / step_ms,
            steps_ms,
        })
    }

    fn check(&self, net: &Network) -> Result<Vec<ConvShape>, BenchError> {
        net.backbone.convolutions(self.shape()).ok_or(BenchError::TooSmall(self.size))
    }

    /// Times each convolution of the network by itself. `done` hears of each that is over, and how
    /// many there are.
    pub fn layers(
        &self,
        device: &Device,
        mut done: impl FnMut(usize),
    ) -> Result<Vec<LayerTimes>, BenchError> {
        let mut found: Vec<(ConvShape, usize)> = Vec::new();
        for shape in self.check(&Network::new(self.backbone, device))? {
            match found.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, count)) => *count += 1,
                None => found.push((shape, 1)),
            }
        }
        let all = found.len();
        let time = |(shape, count): (ConvShape, usize)| {
            let ms = self.run(|| self.time_layer(&shape, device))?;
            done(all);
            let gflop = 2.0 * shape.multiply_adds() as f64 / 1e9;
            Ok(LayerTimes {
                shape: describe(&shape),
                count,
                gflop,
                ms,
                gflop_per_s: ms.map(|ms| gflop / ms * 1e3),
            })
        };
        found.into_iter().map(time).collect()
    }

    /// Milliseconds of forward, input gradient and weight gradient.
    fn time_layer(&self, shape: &ConvShape, device: &Device) -> Result<[f64; 3], BenchError> {
        let autodiff = device.clone().autodiff();
        let random = |size: [usize; 5], device: &Device| {
            Tensor::<5>::random(size, Distribution::Uniform(-1.0, 1.0), device)
        };
        let (stride, padding) = (shape.stride, shape.padding);
        let mut ms = [0.0; 3];
        for (pass, ms) in ms.iter_mut().enumerate() {
            let device = if pass == 0 { device } else { &autodiff };
            let (mut x, mut w) = (random(shape.x(), device), random(shape.w(), device));
            match pass {
                0 => {}
                1 => x = x.require_grad(),
                _ => w = w.require_grad(),
            }
            let mut times = Vec::new();
            for _ in 0..self.steps + 1 {
                device.sync()?;
                let mut start = Instant::now();
                let y = conv3d(x.clone(), w.clone(), stride, padding);
                if pass > 0 {
                    // The backward pass of this graph holds the one gradient and nothing else.
                    device.sync()?;
                    start = Instant::now();
                    let grads = y.backward();
                    device.sync()?;
                    times.push(milliseconds(start));
                    drop(grads);
                } else {
                    device.sync()?;
                    times.push(milliseconds(start));
                }
            }
            // The first one compiled the kernel.
            *ms = median(times.split_off(1));
        }
        Ok(ms)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The middle one, of two the mean; NaN of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    match (values.get(count.wrapping_sub(1) / 2), values.get(count / 2)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => f64::NAN,
    }
}

fn describe(shape: &ConvShape) -> String {
    let by = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let stride = if shape.stride == [1; 3] {
        String::new()
    } else {
        format!(", stride {}", by(&shape.stride))
    };
    format!("{} → {}, {}{stride}", by(&shape.x()), shape.out_channels, by(&shape.kernel))
}
