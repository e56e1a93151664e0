//! Updates of the running statistics after a batch.

use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, Tensor};

use super::wgsl::{self, Blends};
use crate::kernels::{DeviceLimits, Implementation, PlanError, launch};

/// A layer's running statistics and the statistics of a batch, `[C]` each.
#[derive(Debug, Clone)]
pub struct Running {
    /// Running mean and variance.
    pub running: [Tensor<1>; 2],
    /// The batch's mean and biased variance.
    pub batch: [Tensor<1>; 2],
    /// Factor that makes the batch's variance unbiased: n / (n − 1).
    pub unbiased: f64,
}

impl Running {
    fn all(&self) -> impl Iterator<Item = &Tensor<1>> {
        self.running.iter().chain(&self.batch)
    }
}

/// Returns the running mean and variance `[C]` of each layer, updated with a batch as in PyTorch:
/// (1 − momentum)·running + momentum·batch. `momentum` is the weight of the batch. All layers must
/// be on one device. Not differentiable.
pub fn blend(layers: Vec<Running>, momentum: f64) -> Vec<[Tensor<1>; 2]> {
    let Some(first) = layers.first() else { return Vec::new() };
    let all_f32 = layers.iter().flat_map(Running::all).all(|of| of.dtype() == DType::F32);
    if let (Implementation::Wgsl(limits), true) =
        (Implementation::of_tensor(&first.running[0]), all_f32)
    {
        match plans(&layers, momentum, &limits) {
            Ok(plans) => return on_wgsl(layers, plans, &limits),
            Err(error) => {
                log::debug!("running statistics are updated by Burn's operations: {error}");
            }
        }
    }
    layers.into_iter().map(|layer| by_burn(layer, momentum)).collect()
}

/// Returns the weights of the batch's mean and of its variance.
fn shares(momentum: f64, unbiased: f64) -> [f32; 2] {
    [momentum, momentum * unbiased].map(|share| share as f32)
}

/// Updates one layer's statistics with Burn's own operations.
fn by_burn(layer: Running, momentum: f64) -> [Tensor<1>; 2] {
    let Running { running: [mean, variance], batch: [batch_mean, batch_variance], unbiased } =
        layer;
    let [mean_share, variance_share] = shares(momentum, unbiased);
    let keep = (1.0 - momentum) as f32;
    let next = |running: Tensor<1>, batch: Tensor<1>, share: f32| {
        running.detach().mul_scalar(keep).add(batch.detach().mul_scalar(share))
    };
    [next(mean, batch_mean, mean_share), next(variance, batch_variance, variance_share)]
}

/// Plans the updates, one plan for each group of layers that fits into a launch.
fn plans(
    layers: &[Running],
    momentum: f64,
    limits: &DeviceLimits,
) -> Result<Vec<Blends>, PlanError> {
    let factors = [1.0 - momentum, momentum].map(|factor| factor as f32);
    let sizes = |layers: &[Running]| -> Vec<(usize, f32)> {
        let size =
            |layer: &Running| (layer.running[0].dims()[0], shares(momentum, layer.unbiased)[1]);
        layers.iter().map(size).collect()
    };
    layers
        .chunks(wgsl::layers_per_launch(limits))
        .map(|layers| wgsl::blends(&sizes(layers), factors, limits))
        .collect()
}

/// Executes the plans. The results of each launch are parts of one buffer.
fn on_wgsl(layers: Vec<Running>, plans: Vec<Blends>, limits: &DeviceLimits) -> Vec<[Tensor<1>; 2]> {
    let tracked = layers[0].running[0].is_autodiff();
    let cube = |tensor: &Tensor<1>| {
        let tensor = tensor.clone().without_autodiff().try_into_primitive::<CubeBackend>();
        launch::contiguous(tensor.expect("the layers share the first one's backend"))
    };
    let mut results = Vec::with_capacity(layers.len());
    for (layers, blends) in layers.chunks(wgsl::layers_per_launch(limits)).zip(plans) {
        let operands: Vec<CubeTensor> = layers.iter().flat_map(Running::all).map(cube).collect();
        let next = launch::empty(&operands[0], [blends.words]);
        let handles: Vec<_> = operands.iter().chain([&next]).map(|of| &of.handle).collect();
        launch::run(&next.client, &blends.plan, &handles);
        results.extend(layers.iter().zip(blends.starts).map(|(layer, starts)| {
            let channels = layer.running[0].dims()[0];
            starts.map(|start| {
                let part = launch::part(&next, start, [channels]);
                let part = Tensor::from_primitive::<CubeBackend>(part);
                if tracked { part.autodiff() } else { part }
            })
        }));
    }
    results
}
