//! The fused passes on Burn's CPU and wgpu tensors.

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Flex, TensorMetadata};
use polyview_cpu::norm::{Gradients as Targets, Norm, NormShape, Normalised};

use super::Spec;
use super::exchange::{Exchange, sum};
use super::gradient_sums::GradientSums;
use super::op::{ByBatch, Gradients, NormKernels, NormOps, Source};
use super::wgsl::BatchNorm;
use crate::half;
use crate::kernels::pool::Buffer;
use crate::kernels::storage::Storage;
use crate::kernels::{host, launch};

/// Returns the tensor's N, C, T, H, W.
fn sizes(tensor: &impl TensorMetadata) -> [usize; 5] {
    tensor.shape().dims()
}

/// Describes the normalisation of a `[N, C, T, H, W]` tensor to the CPU kernels.
fn norm<'a>(size: [usize; 5], [gamma, beta]: [&'a [f32]; 2], spec: &Spec) -> Norm<'a> {
    let [batch, channels, t, h, w] = size;
    let shape = NormShape { batch, channels, space: t * h * w };
    Norm { shape, gamma, beta, epsilon: spec.epsilon, relu: spec.relu }
}

impl NormOps for Flex {
    fn norm_by_batch(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        residual: FlexTensor,
        moments: FlexTensor,
        by: ByBatch,
        spec: Spec,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let size = sizes(&x);
        let (gamma, beta) = (host::values(&gamma), host::values(&beta));
        let norm = norm(size, [&gamma, &beta], &spec);
        let residual = spec.residual.then(|| host::values(&residual));
        let mut y = Buffer::new(size.iter().product());
        let x = host::values(&x);
        let [mean, variance] = if let Source::Batch(batch) = by.source {
            let moments = host::values(&moments);
            let (of_channels, count) = (moments.as_chunks::<2>().0, batch.values as f64);
            let mean: Vec<f32> = of_channels.iter().map(|channel| channel[0]).collect();
            let variance = of_channels.iter().map(|channel| (f64::from(channel[1]) / count) as f32);
            let variance: Vec<f32> = variance.collect();
            norm.infer(&mean, &variance, &x, residual.as_deref(), y.values());
            [mean, variance]
        } else {
            let statistics = norm.forward(&x, residual.as_deref(), y.values());
            [statistics.mean, statistics.variance]
        };
        let y = y.into_tensor(size);
        let [mean, variance] = [mean, variance].map(|values| host::tensor(values, [size[1]]));
        // The ReLU's mask is derived from y, which the next operation usually keeps anyway.
        let rest = if spec.relu { y.clone() } else { mean.clone() };
        (y, mean, variance, rest)
    }

    fn norm_statistics(x: FlexTensor, _: FlexTensor, _: Option<usize>, spec: Spec) -> FlexTensor {
        let size = sizes(&x);
        let none = vec![0.0; size[1]];
        let norm = norm(size, [&none, &none], &spec);
        let count = (norm.shape.batch * norm.shape.space) as f64;
        let statistics = norm.statistics(&host::values(&x)).into_iter();
        let values =
            statistics.flat_map(|[mean, variance]| [mean as f32, (variance * count) as f32]);
        host::tensor(values.collect(), [2 * size[1]])
    }

    fn sum_across_lanes(own: FlexTensor, exchange: Arc<dyn Exchange>) -> FlexTensor {
        sum::<Self>(own, exchange.as_ref())
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
        let norm = norm(size, [gamma, beta], &spec);
        let residual = spec.residual.then(|| host::values(&residual));
        let mut y = Buffer::new(size.iter().product());
        norm.infer(mean, variance, &host::values(&x), residual.as_deref(), y.values());
        y.into_tensor(size)
    }
}

/// Returns 1 / √(variance + ε) of each channel.
fn rstd(variance: &FlexTensor, spec: &Spec) -> Vec<f32> {
    let of = |&variance: &f32| (1.0 / (f64::from(variance) + spec.epsilon).sqrt()) as f32;
    host::values(variance).iter().map(of).collect()
}

/// Computes the backward pass on the CPU. With given statistics, `x` is not read.
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
    let rstd = rstd(variance, spec);
    let beta = vec![0.0; channels];
    let norm = norm(size, [&gamma, &beta], spec);
    // Without a ReLU the residual's gradient is dy itself.
    let masks = spec.masks_residual();
    let mut masked = Buffer::new(if masks { count } else { 0 });
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
            residual: masks.then(|| masked.values()),
        },
    );
    Gradients {
        x: dx.into_tensor(size),
        gamma: host::tensor(d_gamma, [channels]),
        beta: host::tensor(d_beta, [channels]),
        residual: if masks { masked.into_tensor(size) } else { dy.clone() },
    }
}

impl NormKernels for Flex {
    fn by_batch_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        [mean, variance, y]: [FlexTensor; 3],
        dy: FlexTensor,
        _: Option<&GradientSums>,
        spec: &Spec,
    ) -> Gradients<Flex> {
        let layer = [&gamma, &mean, &variance];
        flex_backward(Normalised::ByBatch, &x, layer, spec.relu.then_some(&y), &dy, spec)
    }

    fn by_batch_sums(
        x: FlexTensor,
        [mean, variance, y]: [FlexTensor; 3],
        dy: FlexTensor,
        spec: &Spec,
    ) -> (FlexTensor, FlexTensor) {
        let size = sizes(&x);
        let none = host::values(&variance);
        let norm = norm(size, [&none, &none], spec);
        let mut g = Buffer::new(size.iter().product());
        let [mean, x, y, dy] = [&mean, &x, &y, &dy].map(host::values);
        let y = if spec.relu { &y[..] } else { &[] };
        let sums = norm.gradient_sums(&mean, &x, y, &dy, g.values());
        let sums = sums.into_iter().flatten().map(|sum| sum as f32).collect();
        (host::tensor(sums, [2 * size[1]]), g.into_tensor(size))
    }

    fn by_batch_input(
        x: FlexTensor,
        gamma: FlexTensor,
        [mean, variance, _]: [FlexTensor; 3],
        [_, g]: [FlexTensor; 2],
        (sums, count): (FlexTensor, usize),
        spec: &Spec,
    ) -> [FlexTensor; 2] {
        let size = sizes(&x);
        let layer = host::values(&gamma);
        let norm = norm(size, [&layer, &layer], spec);
        let mut dx = Buffer::new(size.iter().product());
        let sums = host::values(&sums);
        let sums: Vec<_> = sums.as_chunks().0.iter().map(|sums| sums.map(f64::from)).collect();
        let (rstd, [mean, x, values]) = (rstd(&variance, spec), [&mean, &x, &g].map(host::values));
        norm.gradient_input(&mean, &rstd, &x, &values, &sums, count, dx.values());
        drop(values);
        [dx.into_tensor(size), g]
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

/// Returns the planner for `x`; [`super::is_fused`] has checked that it exists.
fn batch_norm(x: &CubeTensor, spec: Spec) -> BatchNorm {
    let [batch, channels, t, h, w] = sizes(x);
    let limits = launch::limits(&x.device).expect("fused normalisation runs on devices with WGSL");
    let storage = Storage::of(x.dtype, &limits);
    BatchNorm::new([batch, channels, t * h * w], spec, storage, &limits)
        .expect("fused normalisation runs on tensors that its kernels can bind")
}

/// Returns the tensor for the residual's gradient: an empty one for the backward pass to fill, or
/// dy itself where that is the gradient.
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
        by: ByBatch,
        spec: Spec,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let [x, residual] = [x, residual].map(launch::stored);
        let [gamma, beta, moments] = [gamma, beta, moments].map(launch::contiguous);
        let norm = batch_norm(&x, spec);
        let size = sizes(&x);
        let y = launch::empty_stored(&x, size, norm.y());
        let kept = launch::empty(&x, [norm.kept_words()]);
        let operands = [&x, &gamma, &beta, &y, &kept, &residual, &moments];
        let plan = match by.source {
            Source::Input => norm.forward(None),
            Source::Parts(slice) => norm.forward(Some(slice)),
            Source::Batch(batch) => norm.forward_in(batch.values),
        };
        launch::run(&x.client, &plan, &operands.map(|tensor| &tensor.handle));
        let [mean, variance] = [0, 1].map(|row| launch::part(&kept, row * norm.row(), [size[1]]));
        (half::stored_as(y, &x), mean, variance, kept)
    }

    fn norm_statistics(
        x: CubeTensor,
        moments: CubeTensor,
        slice: Option<usize>,
        spec: Spec,
    ) -> CubeTensor {
        let (x, moments) = (launch::stored(x), launch::contiguous(moments));
        let statistics = launch::empty(&x, [2 * sizes(&x)[1]]);
        let operands = [&x.handle, &moments.handle, &statistics.handle];
        launch::run(&x.client, &batch_norm(&x, spec).statistics(slice), &operands);
        statistics
    }

    fn sum_across_lanes(own: CubeTensor, exchange: Arc<dyn Exchange>) -> CubeTensor {
        sum::<Self>(own, exchange.as_ref())
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
        sums: Option<&GradientSums>,
        spec: &Spec,
    ) -> Gradients<Self> {
        let given = sums.and_then(|sums| sums.take(&dy));
        let [x, dy] = [x, dy].map(launch::stored);
        let norm = batch_norm(&x, *spec);
        let size = sizes(&x);
        let dx = launch::empty_stored(&x, size, norm.dx());
        let [d_gamma, d_beta] = [(); 2].map(|()| launch::empty(&x, [size[1]]));
        let masked = masked(&norm, spec, &dy);
        let parts = given.as_ref().map_or(&kept, |given| &given.parts);
        let operands = [&x, &dy, &kept, &dx, &d_gamma, &d_beta, &masked, parts];
        let plan = norm.backward(given.as_ref().map(|given| given.slice));
        launch::run(&x.client, &plan, &operands.map(|tensor| &tensor.handle));
        let [x, residual] = [dx, masked].map(|gradient| half::gradient_as(gradient, &dy));
        Gradients { x, gamma: d_gamma, beta: d_beta, residual }
    }

    fn by_batch_sums(
        x: CubeTensor,
        [_, _, kept]: [CubeTensor; 3],
        dy: CubeTensor,
        spec: &Spec,
    ) -> (CubeTensor, CubeTensor) {
        let [x, dy] = [x, dy].map(launch::stored);
        let norm = batch_norm(&x, *spec);
        let parts = launch::empty(&x, [norm.parts_words()]);
        let masked = masked(&norm, spec, &dy);
        let operands = [&x, &dy, &kept, &parts, &masked];
        launch::run(&x.client, &norm.gradient_sums(), &operands.map(|tensor| &tensor.handle));
        (parts, masked)
    }

    fn by_batch_input(
        x: CubeTensor,
        _: CubeTensor,
        [_, _, kept]: [CubeTensor; 3],
        [dy, g]: [CubeTensor; 2],
        (sums, count): (CubeTensor, usize),
        spec: &Spec,
    ) -> [CubeTensor; 2] {
        let [x, dy] = [x, dy].map(launch::stored);
        let norm = batch_norm(&x, *spec);
        let size = sizes(&x);
        let dx = launch::empty_stored(&x, size, norm.dx());
        // Discarded: the kernel computes the gradients of γ and β for the whole batch, but a lane
        // contributes those of its own share.
        let [d_gamma, d_beta] = [(); 2].map(|()| launch::empty(&x, [size[1]]));
        let operands = [&x, &g, &kept, &sums, &dx, &d_gamma, &d_beta];
        let plan = norm.gradient_input(count);
        launch::run(&x.client, &plan, &operands.map(|tensor| &tensor.handle));
        [dx, g].map(|gradient| half::gradient_as(gradient, &dy))
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
