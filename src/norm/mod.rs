//! Batch normalisation with the residual addition and the ReLU that follow it, in one pass over
//! the numbers each way: WGSL compute shaders on wgpu, vector code on the CPU, Burn's operations
//! elsewhere.

mod backends;
mod op;
mod stock;
pub mod wgsl;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::activation;
use burn::tensor::module;

use crate::kernels::Path;
use op::NormOps;

/// What is done besides normalising.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spec {
    /// Added to the variance.
    epsilon: f64,
    /// Whether something is added to the result.
    residual: bool,
    /// Whether a ReLU follows.
    relu: bool,
}

/// How running statistics move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blend {
    /// The batch's share in the result.
    pub momentum: f64,
    /// Factor that makes the batch's biased variance unbiased: n / (n − 1).
    pub unbiased: f64,
}

impl Blend {
    /// Of the running statistics, of the batch's mean, of its variance.
    fn factors(&self) -> [f32; 3] {
        let Self { momentum, unbiased } = *self;
        [1.0 - momentum, momentum, momentum * unbiased].map(|factor| factor as f32)
    }
}

/// A layer's scale and shift, `[C]` each, and the ε under its root.
#[derive(Debug, Clone)]
pub struct Affine {
    /// γ.
    pub gamma: Tensor<1>,
    /// β.
    pub beta: Tensor<1>,
    /// ε.
    pub epsilon: f64,
}

/// What comes after the normalisation.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "passed once; a few hundred bytes of handles")]
pub enum After {
    /// Nothing.
    Nothing,
    /// max(0, ·).
    Relu,
    /// max(0, · + this `[N, C, T, H, W]`).
    AddRelu(Tensor<5>),
}

impl After {
    fn parts(self) -> (Option<Tensor<5>>, bool) {
        match self {
            Self::Nothing => (None, false),
            Self::Relu => (None, true),
            Self::AddRelu(residual) => (Some(residual), true),
        }
    }

    /// By Burn's own operations.
    fn stock(self, x: Tensor<5>) -> Tensor<5> {
        match self {
            Self::Nothing => x,
            Self::Relu => activation::relu(x),
            Self::AddRelu(residual) => activation::relu(x.add(residual)),
        }
    }
}

/// A normalised batch.
#[derive(Debug)]
pub struct Normalised {
    /// `[N, C, T, H, W]`.
    pub output: Tensor<5>,
    /// Mean of each channel over N, T, H, W: `[C]`, not differentiable.
    pub mean: Tensor<1>,
    /// Its biased variance, likewise.
    pub variance: Tensor<1>,
}

/// Normalises `x [N, C, T, H, W]` by its own statistics. Differentiable.
pub fn by_batch(x: Tensor<5>, affine: Affine, after: After) -> Normalised {
    let Affine { gamma, beta, epsilon } = affine;
    if Path::of_tensor(&x) == Path::Stock {
        let result = module::batch_norm_train(x, gamma, beta, epsilon);
        let output = after.stock(result.output);
        return Normalised { output, mean: result.mean, variance: result.variance };
    }
    let (residual, relu) = after.parts();
    let spec = Spec { epsilon, residual: residual.is_some(), relu };
    // Without a residual its place is held by x and not looked at.
    let residual = residual.unwrap_or_else(|| x.clone());
    let (output, mean, variance) = Dispatch::norm_by_batch(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        residual.into_dispatch(),
        spec,
    );
    Normalised {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

/// Normalises `x [N, C, T, H, W]` by given statistics `[C]`, which are constants.
pub fn by_running(
    x: Tensor<5>,
    affine: Affine,
    mean: Tensor<1>,
    variance: Tensor<1>,
    after: After,
) -> Tensor<5> {
    let Affine { gamma, beta, epsilon } = affine;
    // A layer with running statistics is frozen or evaluates: the kernels leave the gradients of γ
    // and β out.
    let trains = gamma.is_require_grad() || beta.is_require_grad();
    if trains || Path::of_tensor(&x) == Path::Stock {
        return after.stock(module::batch_norm(x, gamma, beta, mean, variance, epsilon));
    }
    let (residual, relu) = after.parts();
    let spec = Spec { epsilon, residual: residual.is_some(), relu };
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

/// Running mean and variance `[C]` after a batch of the given mean and biased variance `[C]`, as
/// PyTorch has them: (1 − momentum)·running + momentum·batch. Not differentiable.
pub fn blend(running: [Tensor<1>; 2], batch: [Tensor<1>; 2], blend: Blend) -> [Tensor<1>; 2] {
    let [running_mean, running_variance] = running.map(|tensor| tensor.detach().into_dispatch());
    let [mean, variance] = batch.map(|tensor| tensor.detach().into_dispatch());
    let (mean, variance) =
        Dispatch::blend_running(running_mean, running_variance, mean, variance, blend);
    [mean, variance].map(|next| Tensor::from_dispatch(next).detach())
}
