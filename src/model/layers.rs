//! The layers that the networks are made of, with PyTorch's definitions: convolution without bias,
//! batch normalisation, embedding. Field names are PyTorch's.

use burn::module::{Flag, Module, Param, RunningState};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::statistics::{BatchStatistics, LayerStatistics};
use crate::conv::{ConvShape, conv3d, conv3d_between_norms};
use crate::norm::{self, Affine, After, Moments, Producer};

/// Draws initial weights on the host, so that a seed gives the same network on every device.
#[derive(Debug)]
pub struct Init {
    rng: ChaCha8Rng,
    device: Device,
}

impl Init {
    /// Creates a generator of weights on `device`; `seed` determines all of them.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), device: device.clone() }
    }

    /// Draws a parameter of the given shape from a normal distribution with standard deviation `std`.
    fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        Param::from_data(
            TensorData::new(self.normals(shape.iter().product(), std), shape),
            &self.device,
        )
    }

    /// Draws `count` values from a normal distribution with standard deviation `std`.
    fn normals(&mut self, count: usize, std: f64) -> Vec<f32> {
        // A standard normal scaled afterwards cannot fail, whatever `std` is.
        Normal::<f64>::new(0.0, 1.0)
            .map(|n| (0..count).map(|_| (n.sample(&mut self.rng) * std) as f32).collect())
            .unwrap_or_else(|_| vec![0.0; count])
    }

    /// Draws a parameter of the given shape, uniform in ±`bound`.
    fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        let count = shape.iter().product();
        let values: Vec<f32> =
            (0..count).map(|_| ((self.rng.random::<f64>() * 2.0 - 1.0) * bound) as f32).collect();
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    fn constant(&self, len: usize, value: f32) -> Tensor<1> {
        Tensor::from_data(TensorData::new(vec![value; len], [len]), &self.device)
    }

    /// Creates an embedding with PyTorch's default initialisation (standard normal), except that row 0
    /// ("unknown") is zero: if every action of the training split is annotated, that row is never
    /// trained, but prediction reads it.
    pub fn embedding(&mut self, values: usize, width: usize) -> Embedding {
        let mut table = self.normals(values * width, 1.0);
        table[..width].fill(0.0);
        Embedding {
            weight: Param::from_data(TensorData::new(table, [values, width]), &self.device),
        }
    }

    /// Creates a fully connected layer with PyTorch's default initialisation: both weight and bias
    /// uniform in ±1/√inputs.
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let bound = 1.0 / (inputs as f64).sqrt();
        Linear {
            weight: self.uniform([inputs, outputs], bound),
            bias: Some(self.uniform([outputs], bound)),
        }
    }
}

/// A learned vector for each value of a categorical property.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[values, width]`; row 0 stands for "unknown".
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// Returns the rows of the given values: `[B, width]`. A value beyond the table counts as unknown.
    pub fn forward(&self, values: &[usize]) -> Tensor<2> {
        let table = self.weight.val();
        let [size, _] = table.dims();
        let rows: Vec<i32> =
            values.iter().map(|&value| if value < size { value as i32 } else { 0 }).collect();
        let count = rows.len();
        let rows = Tensor::from_data(TensorData::new(rows, [count]), &table.device());
        table.select(0, rows)
    }
}

/// 3D convolution without bias, `[N, C, T, H, W]` → `[N, C', T', H', W']`.
#[derive(Module, Debug)]
pub struct Conv3d {
    /// `[C', C, kT, kH, kW]`, PyTorch's layout.
    pub weight: Param<Tensor<5>>,
    stride: [usize; 3],
    padding: [usize; 3],
}

impl Conv3d {
    /// Creates a convolution with Kaiming-normal initialisation over fan-out, as in PyTorch's video
    /// ResNets (He et al. 2015, eq. 15: std = √(2 / (C'·kT·kH·kW))).
    pub fn new(
        init: &mut Init,
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> Self {
        let [inputs, outputs] = channels;
        let fan_out = outputs * kernel.iter().product::<usize>();
        let shape = [outputs, inputs, kernel[0], kernel[1], kernel[2]];
        Self { weight: init.normal(shape, (2.0 / fan_out as f64).sqrt()), stride, padding }
    }

    /// Returns the convolution's shape for an input `[N, C, T, H, W]`; `None` if the input does not fit.
    pub fn shape(&self, input: [usize; 5]) -> Option<ConvShape> {
        ConvShape::new(input, self.weight.dims(), self.stride, self.padding)
    }

    /// Convolves `[N, C, T, H, W]`.
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        conv3d(input, self.weight.val(), self.stride, self.padding)
    }

    /// Convolves the input of the batch norm `norm`. If the layer normalises with batch statistics, the
    /// convolution may gather them while it writes its output. If `input` is the output of another batch
    /// norm, only this convolution may read it.
    pub(super) fn forward_to(&self, norm: &BatchNorm3d, input: Normalised) -> Convolved {
        let Normalised { output: input, producer } = input;
        if !norm.takes_statistics_of(&input) {
            return Convolved { output: self.forward(input), moments: None };
        }
        let (weight, stride, padding) = (self.weight.val(), self.stride, self.padding);
        let (output, moments) = conv3d_between_norms(input, weight, stride, padding, producer);
        Convolved { output, moments }
    }
}

/// Output of a batch norm, for the convolution that follows.
pub(super) struct Normalised {
    /// `[N, C, T, H, W]`.
    pub output: Tensor<5>,
    producer: Option<Producer>,
}

impl From<Tensor<5>> for Normalised {
    /// Wraps a tensor that is not a batch norm's output, or that other operations read too.
    fn from(output: Tensor<5>) -> Self {
        Self { output, producer: None }
    }
}

/// Output of a convolution, for the batch norm that follows.
pub(super) struct Convolved {
    /// `[N, C, T, H, W]`.
    output: Tensor<5>,
    moments: Option<Moments>,
}

/// Batch normalisation over N, T, H, W of `[N, C, T, H, W]`, as in PyTorch: momentum 0.1, biased
/// variance for the normalisation, unbiased for the running statistics.
///
/// Burn's own layer keeps the biased variance in the running statistics, so a network trained with it
/// would evaluate differently in PyTorch.
#[derive(Module, Debug)]
pub struct BatchNorm3d {
    /// Scale γ, `[C]`.
    pub weight: Param<Tensor<1>>,
    /// Shift β, `[C]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[C]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running unbiased variance, `[C]`.
    pub running_var: RunningState<Tensor<1>>,
    /// False while the layer is frozen: it then normalises with its running statistics and does not
    /// update them.
    training: Param<Flag>,
    /// ε, added to the variance.
    epsilon: f64,
}

impl BatchNorm3d {
    /// Creates a layer for `channels` channels with γ = 1, β = 0, running mean 0 and variance 1.
    /// PyTorch's default `epsilon` is 1e-5; some networks use another.
    pub fn new(init: &mut Init, channels: usize, epsilon: f64) -> Self {
        Self {
            weight: Param::from_tensor(init.constant(channels, 1.0)),
            bias: Param::from_tensor(init.constant(channels, 0.0)),
            running_mean: RunningState::new(init.constant(channels, 0.0).detach()),
            running_var: RunningState::new(init.constant(channels, 1.0).detach()),
            training: Param::from_bool(true),
            epsilon,
        }
    }

    /// Returns ε, which is added to the variance.
    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Whether the layer normalises with the batch's own statistics.
    fn takes_statistics_of(&self, input: &Tensor<5>) -> bool {
        input.device().is_autodiff() && self.training.is_enabled()
    }

    /// Returns the running mean and variance; the clones share the layer's state.
    pub(crate) fn running(&self) -> [RunningState<Tensor<1>>; 2] {
        [self.running_mean.clone(), self.running_var.clone()]
    }

    /// Normalises `[N, C, T, H, W]` and applies `after` in the same pass. While training, it normalises
    /// with the batch's statistics and adds them to `statistics`; otherwise with the running ones.
    pub(super) fn forward(
        &self,
        Convolved { output: input, moments }: Convolved,
        after: After,
        statistics: &mut BatchStatistics,
    ) -> Normalised {
        let [n, _, t, h, w] = input.dims();
        let affine =
            Affine { gamma: self.weight.val(), beta: self.bias.val(), epsilon: self.epsilon };
        let (mean, variance) = (&self.running_mean, &self.running_var);
        if !self.takes_statistics_of(&input) {
            let (mean, variance) = (mean.value_sync(), variance.value_sync());
            return norm::by_running(input, affine, mean, variance, after).into();
        }
        let (result, count, leads) = match statistics.exchange() {
            None => (norm::by_batch(input, moments, affine, after), n * t * h * w, true),
            Some(exchange) => {
                let share = norm::across_lanes(input, moments, affine, after, exchange);
                (share.normalised, share.values, share.leads)
            }
        };
        let count = count as f64;
        // With a single value the unbiased variance is 0/0. PyTorch refuses such a batch; the biased
        // variance (0) is used here, so that a tiny last stage does not end a run.
        let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
        // Of the lanes that share a batch, only the leading one records its statistics.
        if leads {
            statistics.push(LayerStatistics {
                norm: self.weight.id,
                running: self.running(),
                batch: [result.mean, result.variance],
                unbiased,
            });
        }
        Normalised { output: result.output, producer: result.producer }
    }
}
