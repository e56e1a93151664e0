//! The fused passes on Burn's CPU and wgpu tensors.

use burn::backend::flex::FlexTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;
use polyview_cpu::norm::{Gradients as Targets, Norm, NormShape, Normalised};

use super::op::{Gradients, NormKernels, NormOps};
use super::wgsl::{self, BatchNorm, Plan};
use super::{Blend, Spec, stock};
use crate::kernels::plan::{DeviceLimits, PlanError};
use crate::kernels::pool::Buffer;
use crate::kernels::{self, host, launch};

/// N, C, T, H, W; ones where there are fewer.
fn sizes(tensor: &impl TensorMetadata) -> [usize; 5] {
    let shape = tensor.shape();
    std::array::from_fn(|axis| shape.iter().nth(axis).copied().unwrap_or(1))
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
        stock::blend_running::<Self>([running_mean, running_variance], [mean, variance], &blend)
    }
}

/// The way back on the CPU; `x` is not looked at where the statistics were given.
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
    let apart = spec.residual && spec.relu;
    let mut masked = Buffer::new(if apart { count } else { 0 });
    let mut dx = Buffer::new(count);
    let (mut d_gamma, mut d_beta) = (vec![0.0; channels], vec![0.0; channels]);
    let output = y.map(host::values).unwrap_or_default();
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

/// A pass's plan where the shaders serve these tensors.
fn planned(
    x: &CubeTensor,
    spec: &Spec,
    plan: impl FnOnce(&BatchNorm, &DeviceLimits) -> Result<Plan, PlanError>,
) -> Option<Plan> {
    let [batch, channels, t, h, w] = sizes(x);
    let norm = BatchNorm {
        batch,
        channels,
        plane: t * h * w,
        epsilon: spec.epsilon as f32,
        residual: spec.residual,
        relu: spec.relu,
    };
    let limits = launch::limits(&x.device).filter(|_| x.dtype == DType::F32)?;
    plan(&norm, &limits).inspect_err(|error| log::debug!("{norm:?}: {error}")).ok()
}

impl NormOps for CubeBackend {
    fn norm_by_batch(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        residual: CubeTensor,
        spec: Spec,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let Some(plan) = planned(&x, &spec, BatchNorm::forward) else {
            return stock::by_batch::<Self>(x, gamma, beta, residual, &spec);
        };
        let [x, gamma, beta, residual] = [x, gamma, beta, residual].map(launch::contiguous);
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
        let Some(plan) = planned(&x, &spec, BatchNorm::running) else {
            let layer = [gamma, beta, mean, variance];
            return stock::by_running::<Self>(x, layer, residual, &spec);
        };
        let all = [x, gamma, beta, mean, variance, residual].map(launch::contiguous);
        let [x, gamma, beta, mean, variance, residual] = &all;
        let y = launch::empty(x, sizes(x));
        let operands = [x, gamma, beta, &y, mean, variance, residual];
        launch::run(&x.client, &plan, &operands.map(|tensor| &tensor.handle));
        y
    }

    fn blend_running(
        running_mean: CubeTensor,
        running_variance: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        blend: Blend,
    ) -> (CubeTensor, CubeTensor) {
        let all = [running_mean, running_variance, mean, variance];
        let channels = sizes(&all[0])[0];
        let ours = launch::limits(&all[0].device)
            .filter(|_| !kernels::stock_wanted() && all.iter().all(|t| t.dtype == DType::F32))
            .and_then(|limits| wgsl::blend(channels, &blend, &limits).ok());
        let Some(plan) = ours else {
            let [running_mean, running_variance, mean, variance] = all;
            let running = [running_mean, running_variance];
            return stock::blend_running::<Self>(running, [mean, variance], &blend);
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
        let Some(plan) = planned(&x, spec, BatchNorm::backward) else {
            return stock::by_batch_backward(x, gamma, statistics, y, dy, spec);
        };
        let [mean, variance] = statistics;
        let all = [x, gamma, mean, variance, dy].map(launch::contiguous);
        let [x, gamma, mean, variance, dy] = &all;
        let size = sizes(x);
        let dx = launch::empty(x, size);
        let [d_gamma, d_beta] = [(); 2].map(|()| launch::empty(x, [size[1]]));
        let apart = spec.residual && spec.relu;
        let masked = if apart { launch::empty(x, size) } else { dy.clone() };
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
        let Some(plan) = planned(&dy, spec, BatchNorm::running_backward) else {
            let [gamma, _, variance] = layer;
            return stock::by_running_backward::<Self>([gamma, variance], y, dy, spec);
        };
        let [gamma, mean, variance] = layer.map(launch::contiguous);
        let dy = launch::contiguous(dy);
        let size = sizes(&dy);
        let dx = launch::empty(&dy, size);
        let masked = if spec.residual && spec.relu { launch::empty(&dy, size) } else { dy.clone() };
        let y = y.map_or_else(|| dy.clone(), launch::contiguous);
        // dγ and dβ are not written: γ holds their places.
        let operands = [&dy, &gamma, &mean, &variance, &dy, &dx, &gamma, &gamma, &y, &masked];
        launch::run(&dy.client, &plan, &operands.map(|tensor| &tensor.handle));
        [dx, masked]
    }
}
