//! The fused passes on Burn's CPU and wgpu tensors.

use std::borrow::Cow;

use burn::backend::flex::FlexTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Flex, TensorMetadata};
use polyview_cpu::norm::{Gradients as Targets, Norm, NormShape, Normalised};

use super::Spec;
use super::op::{Gradients, NormKernels, NormOps};
use super::wgsl::BatchNorm;
use crate::half;
use crate::kernels::pool::Buffer;
use crate::kernels::storage::Storage;
use crate::kernels::{host, launch};

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
        _: FlexTensor,
        _: Option<usize>,
        spec: Spec,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
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
        let y = y.into_tensor(size);
        let [mean, variance] = [found.mean, found.variance].map(channel);
        // The mask of the ReLU is taken from y, which whatever comes next mostly keeps anyway.
        let rest = if spec.relu { y.clone() } else { mean.clone() };
        (y, mean, variance, rest)
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
        [mean, variance, y]: [FlexTensor; 3],
        dy: FlexTensor,
        spec: &Spec,
    ) -> Gradients<Flex> {
        let layer = [&gamma, &mean, &variance];
        flex_backward(Normalised::ByBatch, &x, layer, spec.relu.then_some(&y), &dy, spec)
    }

    fn by_running_backward(
        [gamma, variance]: [FlexTensor; 2],
        y: Option<FlexTensor>,
        dy: FlexTensor,
        spec: &Spec,
    ) -> [FlexTensor; 2] {
        // The mean is not read.
        let layer = [&gamma, &variance, &variance];
        let back = flex_backward(Normalised::ByRunning, &dy, layer, y.as_ref(), &dy, spec);
        [back.x, back.residual]
    }
}

/// The plans for `x`, which [`super::is_fused`] has found to exist.
fn batch_norm(x: &CubeTensor, spec: Spec) -> BatchNorm {
    let [batch, channels, t, h, w] = sizes(x);
    let limits = launch::limits(&x.device).expect("fused normalisation runs on devices with WGSL");
    let storage = Storage::of(x.dtype, &limits);
    BatchNorm::new([batch, channels, t * h * w], spec, storage, &limits)
        .expect("fused normalisation runs on tensors that its kernels can bind")
}

/// Where a backward pass writes the residual's gradient: dy itself where that is the gradient.
fn masked(norm: &BatchNorm, spec: &Spec, dy: &CubeTensor) -> CubeTensor {
    match spec.masks_residual() {
        true => launch::empty_stored(dy, sizes(dy), norm.dx()),
        false => dy.clone(),
    }
}

impl NormOps for CubeBackend {
    fn norm_by_batch(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        residual: CubeTensor,
        moments: CubeTensor,
        slice: Option<usize>,
        spec: Spec,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let [x, residual] = [x, residual].map(launch::stored);
        let [gamma, beta, moments] = [gamma, beta, moments].map(launch::contiguous);
        let norm = batch_norm(&x, spec);
        let size = sizes(&x);
        let y = launch::empty_stored(&x, size, norm.y());
        let kept = launch::empty(&x, [norm.kept_words()]);
        let operands = [&x, &gamma, &beta, &y, &kept, &residual, &moments];
        launch::run(&x.client, &norm.forward(slice), &operands.map(|tensor| &tensor.handle));
        let [mean, variance] = [0, 1].map(|row| launch::part(&kept, row * norm.row(), [size[1]]));
        (half::stored_as(y, &x), mean, variance, kept)
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
        let [x, residual] = [x, residual].map(launch::stored);
        let layer = [gamma, beta, mean, variance].map(launch::contiguous);
        let [gamma, beta, mean, variance] = &layer;
        let norm = batch_norm(&x, spec);
        let y = launch::empty_stored(&x, sizes(&x), norm.y());
        let operands = [&x, gamma, beta, &y, mean, variance, &residual];
        launch::run(&x.client, &norm.running(), &operands.map(|tensor| &tensor.handle));
        half::stored_as(y, &x)
    }
}

impl NormKernels for CubeBackend {
    fn by_batch_backward(
        x: CubeTensor,
        _: CubeTensor,
        [_, _, kept]: [CubeTensor; 3],
        dy: CubeTensor,
        spec: &Spec,
    ) -> Gradients<Self> {
        let [x, dy] = [x, dy].map(launch::stored);
        let norm = batch_norm(&x, *spec);
        let size = sizes(&x);
        let dx = launch::empty_stored(&x, size, norm.dx());
        let [d_gamma, d_beta] = [(); 2].map(|()| launch::empty(&x, [size[1]]));
        let masked = masked(&norm, spec, &dy);
        let operands = [&x, &dy, &kept, &dx, &d_gamma, &d_beta, &masked];
        launch::run(&x.client, &norm.backward(), &operands.map(|tensor| &tensor.handle));
        let [x, residual] = [dx, masked].map(|gradient| half::gradient_as(gradient, &dy));
        Gradients { x, gamma: d_gamma, beta: d_beta, residual }
    }

    fn by_running_backward(
        layer: [CubeTensor; 2],
        y: Option<CubeTensor>,
        dy: CubeTensor,
        spec: &Spec,
    ) -> [CubeTensor; 2] {
        let [gamma, variance] = layer.map(launch::contiguous);
        let dy = launch::stored(dy);
        let y = y.map_or_else(|| dy.clone(), launch::stored);
        let norm = batch_norm(&dy, *spec);
        let size = sizes(&dy);
        let dx = launch::empty_stored(&dy, size, norm.dx());
        let masked = masked(&norm, spec, &dy);
        let operands = [&dy, &gamma, &variance, &dx, &y, &masked];
        let plan = norm.running_backward();
        launch::run(&dy.client, &plan, &operands.map(|tensor| &tensor.handle));
        [dx, masked].map(|gradient| half::gradient_as(gradient, &dy))
    }
}
