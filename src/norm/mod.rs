//! Batch normalisation with the residual addition and the ReLU that follow it, fused: one pass over
//! the values forward and one backward. WGSL compute shaders on wgpu, vector code on the CPU,
//! Burn's operations elsewhere.

mod across;
mod backends;
mod blend;
mod exchange;
mod gradient_sums;
mod op;
pub(crate) mod wgsl;

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::activation;
use burn::tensor::module;

use crate::half;
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, Implementation, PlanError};
pub use across::{Across, across_lanes};
pub use blend::{Running, blend};
pub use exchange::{Exchange, Shares};
pub use gradient_sums::Producer;
pub(crate) use gradient_sums::{GradientSums, SumsInParts};
use op::{ByBatch, NormOps, Source};
use wgsl::{BatchNorm, Traffic};

/// Parameters of a fused normalisation, without its tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spec {
    /// Added to the variance.
    epsilon: f64,
    /// Whether a residual is added to the result.
    residual: bool,
    /// Whether a ReLU follows.
    relu: bool,
}

impl Spec {
    pub(crate) fn new(epsilon: f64, residual: bool, relu: bool) -> Self {
        Self { epsilon, residual, relu }
    }

    /// Whether the residual's gradient differs from dy.
    fn masks_residual(&self) -> bool {
        self.residual && self.relu
    }
}

/// A layer's scale and shift, `[C]` each, and the ε that is added to the variance.
#[derive(Debug, Clone)]
pub struct Affine {
    /// γ.
    pub gamma: Tensor<1>,
    /// β.
    pub beta: Tensor<1>,
    /// ε.
    pub epsilon: f64,
}

/// Operations that follow the normalisation.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "passed once; a few hundred bytes of handles")]
pub enum After {
    /// No operation.
    Nothing,
    /// max(0, ·).
    Relu,
    /// max(0, · + this `[N, C, T, H, W]`).
    AddRelu(Tensor<5>),
}

impl After {
    fn spec(&self, epsilon: f64) -> Spec {
        let (residual, relu) = match self {
            Self::Nothing => (false, false),
            Self::Relu => (false, true),
            Self::AddRelu(_) => (true, true),
        };
        Spec::new(epsilon, residual, relu)
    }

    fn residual(self) -> Option<Tensor<5>> {
        match self {
            Self::Nothing | Self::Relu => None,
            Self::AddRelu(residual) => Some(residual),
        }
    }

    /// Applies these operations with Burn's own, in f32.
    fn apply(self, x: Tensor<5>) -> Tensor<5> {
        match self {
            Self::Nothing => x,
            Self::Relu => activation::relu(x),
            Self::AddRelu(residual) => activation::relu(x.add(half::to_float(residual))),
        }
    }
}

/// Partial statistics of a tensor's channels, as a convolution computes them for its output.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Mean and sum of squared deviations of each part: `[C·parts·2]`, in this order. Not
    /// differentiable.
    pub parts: Tensor<1>,
    /// Number of values per part, counted over N, T, H, W; a channel's last part may have fewer.
    pub slice: usize,
}

/// A normalised batch.
#[derive(Debug)]
pub struct Normalised {
    /// `[N, C, T, H, W]`.
    pub output: Tensor<5>,
    /// Mean of each channel over N, T, H, W: `[C]`, not differentiable.
    pub mean: Tensor<1>,
    /// Biased variance of each channel, likewise.
    pub variance: Tensor<1>,
    /// State for the convolution that reads the output, if that can compute a part of the backward
    /// pass.
    pub producer: Option<Producer>,
}

/// Whether the fused operations support `x [N, C, T, H, W]`; if not, Burn's own are used. This is
/// where the implementation is chosen, for the forward and the backward pass.
fn is_fused(x: &Tensor<5>, spec: Spec) -> bool {
    match Implementation::of_tensor(x) {
        Implementation::Cpu => true,
        Implementation::Wgsl(limits) => {
            let [batch, channels, t, h, w] = x.dims();
            let storage = Storage::of(x.dtype(), &limits);
            BatchNorm::new([batch, channels, t * h * w], spec, storage, &limits)
                .inspect_err(|error| log::debug!("{:?}: {error}", x.dims()))
                .is_ok()
        }
        Implementation::Burn => false,
    }
}

/// Normalises `x [N, C, T, H, W]` by its own statistics. The output has the type of x.
/// Differentiable. If `moments` of `x` are given, `x` is not read to compute the statistics.
pub fn by_batch(
    x: Tensor<5>,
    moments: Option<Moments>,
    affine: Affine,
    after: After,
) -> Normalised {
    let Affine { gamma, beta, epsilon } = affine;
    let spec = after.spec(epsilon);
    if !is_fused(&x, spec) {
        let is_half = half::is_half(&x);
        let result = module::batch_norm_train(half::to_float(x), gamma, beta, epsilon);
        let output = half::stored(after.apply(result.output), is_half);
        let (mean, variance) = (result.mean, result.variance);
        return Normalised { output, mean, variance, producer: None };
    }
    // Operands that do not exist are replaced by ones that are not read in their place: the
    // residual by x, the moments by γ.
    let is_half = half::is_half(&x);
    let residual = after.residual().map(|residual| half::stored(residual, is_half));
    let residual = residual.unwrap_or_else(|| x.clone());
    let source = moments.as_ref().map_or(Source::Input, |moments| Source::Parts(moments.slice));
    let moments = moments.map_or_else(|| gamma.clone(), |moments| moments.parts);
    // With a residual, the pass that computes the sums also writes the residual's gradient, so it
    // cannot be skipped.
    let gives_sums = spec.relu && !spec.residual;
    let gives_sums = gives_sums && matches!(Implementation::of_tensor(&x), Implementation::Wgsl(_));
    let sums = gives_sums.then(Arc::default);
    let (output, mean, variance, kept) = Dispatch::norm_by_batch(
        x.clone().into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        residual.into_dispatch(),
        moments.into_dispatch(),
        ByBatch { source, sums: sums.clone() },
        spec,
    );
    Normalised {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
        producer: sums.map(|sums| Producer { x, kept: Tensor::from_dispatch(kept), sums }),
    }
}

/// Normalises `x [N, C, T, H, W]` by given statistics `[C]`, which are constants. The output has
/// the type of x.
pub fn by_running(
    x: Tensor<5>,
    affine: Affine,
    mean: Tensor<1>,
    variance: Tensor<1>,
    after: After,
) -> Tensor<5> {
    let Affine { gamma, beta, epsilon } = affine;
    // A layer that uses running statistics is frozen or in evaluation mode, so the fused operation
    // does not compute the gradients of γ and β.
    let trains = gamma.is_require_grad() || beta.is_require_grad();
    let spec = after.spec(epsilon);
    let is_half = half::is_half(&x);
    if trains || !is_fused(&x, spec) {
        let x = half::to_float(x);
        let y = after.apply(module::batch_norm(x, gamma, beta, mean, variance, epsilon));
        return half::stored(y, is_half);
    }
    let residual = after.residual().map(|residual| half::stored(residual, is_half));
    let residual = residual.unwrap_or_else(|| x.clone());
    Tensor::from_dispatch(Dispatch::norm_by_running(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        residual.into_dispatch(),
        spec,
    ))
}

/// Returns the bytes that the launches for `[N, C, S]` read and write in training, forward and
/// backward. `slices` are for the statistics and for the sums of the gradient: if given, a
/// convolution computes them in parts of that many values. `x` is how activations are stored.
pub(crate) fn training_bytes(
    shape: [usize; 3],
    slices: [Option<usize>; 2],
    [residual, relu]: [bool; 2],
    x: Storage,
    limits: &DeviceLimits,
) -> Result<usize, PlanError> {
    let norm = BatchNorm::new(shape, Spec { epsilon: 0.0, residual, relu }, x, limits)?;
    Ok(norm.traffic(slices).iter().map(Traffic::total).sum())
}
