//! The fused passes on Burn's CPU and wgpu tensors.

use std::borrow::Cow;

use burn::backend::flex::FlexTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;
use polyview_cpu::norm::{Gradients as Targets, Norm, NormShape, Normalised};

use super::op::{Gradients, NormKernels, NormOps, blend_by_burn};
use super::wgsl::{self, BatchNorm};
use super::{Blend, Spec};
use crate::kernels::pool::Buffer;
use crate::kernels::{host, launch, stock_wanted};

/// N, C, T, H, W.
fn sizes(tensor: &impl TensorMetadata) -> [usize; 5] {
    tensor.shape().dims()
}

fn norm_shape([batch, channels, t, h, w]: [usize; 5]) -> NormShape {
    NormShape { batch, channels, space: t * h * w }
}

impl NormOps for Flex {
    fn norm_by_batch(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        residual: FlexTensor,
        spec: Spec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let size = sizes(&x);
        let (gamma, beta) = (host::values(&gamma), host::values(&beta));
        let norm = Norm {
            shape: norm_shape(size),
            gamma: &gamma,
            beta: &beta,
            epsilon: spec.epsilon,
            relu: spec.relu,
        };
        let residual = spec.residual.then(|| host::values(&residual));
        let mut y = Buffer::new(size.iter().product());
        let found = norm.forward(&host::values(&x), residual.as_deref(), y.values());
        let channel = |values| host::tensor(values, [size[1]]);
        (y.into_tensor(size), channel(found.mean), channel(found.variance))
    }

    fn norm_by_running(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        residual: FlexTensor,
        spec: Spec,
    ) -> FlexTensor {
        let size = sizes(&x);
        let layer = [&gamma, &beta, &mean, &variance].map(host::values);
        let [gamma, beta, mean, variance] = layer.each_ref().map(|values| &**values);
        let Spec { epsilon, relu, .. } = spec;
        let norm = Norm { shape: norm_shape(size), gamma, beta, epsilon, relu };
        let residual = spec.residual.then(|| host::values(&residual));
        let mut y = Buffer::new(size.iter().product());
        norm.infer(mean, variance, &host::values(&x), residual.as_deref(), y.values());
        y.into_tensor(size)
    }

    fn blend_running(
        running_mean: FlexTensor,
        running_variance: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        blend: Blend,
    ) -> (FlexTensor, FlexTensor) {
        blend_by_burn::<Self>([running_mean, running_variance], [mean, variance], &blend)
    }
}

/// The backward pass on the CPU; `x` is not read where the statistics were given.
fn flex_backward(
    normalised: Normalised,
    x: &FlexTensor,
    [gamma, mean, variance]: [&FlexTensor; 3],
    y: Option<&FlexTensor>,
    dy: &FlexTensor,
    spec: &Spec,
) -> Gradients<Flex> {
    let size = sizes(dy);
    let (count, channels) = (size.iter().product(), size[1]);
    let (gamma, mean) = (host::values(gamma), host::values(mean));
    let rstd: Vec<f32> = host::values(variance)
        .iter()
        .map(|&variance| (1.0 / (f64::from(variance) + spec.epsilon).sqrt()) as f32)
        .collect();
    let beta = vec![0.0; channels];
    let norm = Norm {
        shape: norm_shape(size),
        gamma: &gamma,
        beta: &beta,
        epsilon: spec.epsilon,
        relu: spec.relu,
    };
    // Without a ReLU the residual's gradient is dy itself.
    let apart = spec.masks_residual();
    let mut masked = Buffer::new(if apart { count } else { 0 });
    let mut dx = Buffer::new(count);
    let (mut d_gamma, mut d_beta) = (vec![0.0; channels], vec![0.0; channels]);
    // Without a ReLU the output is not read.
    let output = y.map_or(Cow::Borrowed(&[] as &[f32]), host::values);
    norm.backward(
        normalised,
        &mean,
        &rstd,
        &host::values(x),
        &output,
        &host::values(dy),
        Targets {
            dx: dx.values(),
            gamma: &mut d_gamma,
            beta: &mut d_beta,
            residual: apart.then(|| masked.values()),
        },
    );
    Gradients {
        x: dx.into_tensor(size),
        gamma: host::tensor(d_gamma, [channels]),
        beta: host::tensor(d_beta, [channels]),
        residual: if apart { masked.into_tensor(size) } else { dy.clone() },
    }
}

impl NormKernels for Flex {
    fn by_batch_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        [mean, variance]: [FlexTensor; 2],
        y: Option<FlexTensor>,
        dy: FlexTensor,
        spec: &Spec,
    ) -> Gradients<Flex> {
        let layer = [&gamma, &mean, &variance];
        flex_backward(Normalised::ByBatch, &x, layer, y.as_ref(), &dy, spec)
    }

    fn by_running_backward(
        layer: [FlexTensor; 3],
        y: Option<FlexTensor>,
        dy: FlexTensor,
        spec: &Spec,
    ) -> [FlexTensor; 2] {
        let layer = layer.each_ref();
        let back = flex_backward(Normalised::ByRunning, &dy, layer, y.as_ref(), &dy, spec);
        [back.x, back.residual]
    }
}

/// The plans for `x`, which [`super::is_fused`] has found to exist.
fn batch_norm(x: &CubeTensor, spec: Spec) -> BatchNorm {
    let [batch, channels, t, h, w] = sizes(x);
    let limits = launch::limits(&x.device).expect("fused normalisation runs on devices with WGSL");
    BatchNorm::new([batch, channels, t * h * w], spec, &limits)
        .expect("fused normalisation runs on tensors that its kernels can bind")
}

impl NormOps for CubeBackend {
    fn norm_by_batch(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        residual: CubeTensor,
        spec: Spec,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, gamma, beta, residual] = [x, gamma, beta, residual].map(launch::contiguous);
        let plan = batch_norm(&x, spec).forward();
        let size = sizes(&x);
        let y = launch::empty(&x, size);
        let [mean, variance] = [(); 2].map(|()| launch::empty(&x, [size[1]]));
        let operands = [&x, &gamma, &beta, &y, &mean, &variance, &residual];
        launch::run(&x.client, &plan, &operands.map(|tensor| &tensor.handle));
        (y, mean, variance)
    }

    fn norm_by_running(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        residual: CubeTensor,
        spec: Spec,
    ) -> CubeTensor {
        let all = [x, gamma, beta, mean, variance, residual].map(launch::contiguous);
        let [x, gamma, beta, mean, variance, residual] = &all;
        let plan = batch_norm(x, spec).running();
        let y = launch::empty(x, sizes(x));
        let operands = [x, gamma, beta, &y, mean, variance, residual];
        launch::run(&x.client, &plan, &operands.map(|tensor| &tensor.handle));
        y
    }

    /// The one operation that chooses its implementation here: it is not differentiable, so Burn's
    /// own operations need not be recorded.
    fn blend_running(
        running_mean: CubeTensor,
        running_variance: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        blend: Blend,
    ) -> (CubeTensor, CubeTensor) {
        let all = [running_mean, running_variance, mean, variance];
        let [channels] = all[0].shape().dims();
        let plan = launch::limits(&all[0].device)
            .filter(|_| !stock_wanted() && all.iter().all(|tensor| tensor.dtype == DType::F32))
            .and_then(|limits| wgsl::blend(channels, &blend, &limits).ok());
        let Some(plan) = plan else {
            let [running_mean, running_variance, mean, variance] = all;
            let running = [running_mean, running_variance];
            return blend_by_burn::<Self>(running, [mean, variance], &blend);
        };
        let [running_mean, running_variance, mean, variance] = &all.map(launch::contiguous);
        let [next_mean, next_variance] = [(); 2].map(|()| launch::empty(mean, [channels]));
        let operands = [running_mean, running_variance, mean, variance, &next_mean, &next_variance];
        launch::run(&mean.client, &plan, &operands.map(|tensor| &tensor.handle));
        (next_mean, next_variance)
    }
}

impl NormKernels for CubeBackend {
    fn by_batch_backward(
        x: CubeTensor,
        gamma: CubeTensor,
        statistics: [CubeTensor; 2],
        y: Option<CubeTensor>,
        dy: CubeTensor,
        spec: &Spec,
    ) -> Gradients<Self> {
        let [mean, variance] = statistics;
        let all = [x, gamma, mean, variance, dy].map(launch::contiguous);
        let [x, gamma, mean, variance, dy] = &all;
        let plan = batch_norm(x, *spec).backward();
        let size = sizes(x);
        let dx = launch::empty(x, size);
        let [d_gamma, d_beta] = [(); 2].map(|()| launch::empty(x, [size[1]]));
        let masked = if spec.masks_residual() { launch::empty(x, size) } else { dy.clone() };
        let y = y.map_or_else(|| dy.clone(), launch::contiguous);
        let operands = [x, gamma, mean, variance, dy, &dx, &d_gamma, &d_beta, &y, &masked];
        launch::run(&x.client, &plan, &operands.map(|tensor| &tensor.handle));
        Gradients { x: dx, gamma: d_gamma, beta: d_beta, residual: masked }
    }

    fn by_running_backward(
        layer: [CubeTensor; 3],
        y: Option<CubeTensor>,
        dy: CubeTensor,
        spec: &Spec,
    ) -> [CubeTensor; 2] {
        let [gamma, mean, variance] = layer.map(launch::contiguous);
        let dy = launch::contiguous(dy);
        let plan = batch_norm(&dy, *spec).running_backward();
        let size = sizes(&dy);
        let dx = launch::empty(&dy, size);
        let masked = if spec.masks_residual() { launch::empty(&dy, size) } else { dy.clone() };
        let y = y.map_or_else(|| dy.clone(), launch::contiguous);
        // dγ and dβ are not written: γ is bound in their places.
        let operands = [&dy, &gamma, &mean, &variance, &dy, &dx, &gamma, &gamma, &y, &masked];
        launch::run(&dy.client, &plan, &operands.map(|tensor| &tensor.handle));
        [dx, masked]
    }
}
