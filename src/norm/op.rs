//! The fused normalisation as an operation of Burn's backends, with its gradients.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as Registered;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
use burn::tensor::TensorData;

use super::Spec;
use super::exchange::{Batch, Exchange, Sums};
use super::gradient_sums::GradientSums;

/// Where the statistics of a batch come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Computed from x.
    Input,
    /// Given along with x, in parts of this many values.
    Parts(usize),
    /// Given for the whole batch that x is a share of: mean and sum of squared deviations of each
    /// channel.
    Batch(Arc<Batch>),
}

/// Arguments of a normalisation by batch statistics, besides its tensors.
#[derive(Debug, Clone)]
pub(crate) struct ByBatch {
    pub source: Source,
    /// Slot for the sums that the backward pass starts with, filled by the convolution that reads
    /// y.
    pub sums: Option<Arc<GradientSums>>,
}

/// The operations as Burn dispatches them; the implementation for `Autodiff` adds the gradients.
#[backend_extension(Autodiff, Cube, Flex)]
pub(crate) trait NormOps: Backend {
    /// Returns y, the mean and biased variance of each channel, and whatever else the backward pass
    /// needs, in a form specific to the backend. `moments` are statistics that are not computed
    /// from `x`.
    fn norm_by_batch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        by: ByBatch,
        spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Returns the mean and sum of squared deviations of each channel: `[C·2]`, not differentiable.
    /// With a `slice` they are merged from `moments`, the statistics in parts of that many values,
    /// instead of being computed from `x`.
    fn norm_statistics(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        slice: Option<usize>,
        spec: Spec,
    ) -> FloatTensor<Self>;

    /// Adds up the values of all lanes. Differentiable: each lane's loss depends on the sum.
    fn sum_across_lanes(own: FloatTensor<Self>, exchange: Arc<dyn Exchange>) -> FloatTensor<Self>;

    /// Returns y, normalised by given statistics. Not differentiable with respect to γ and β.
    fn norm_by_running(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        spec: Spec,
    ) -> FloatTensor<Self>;
}

/// Results of the backward pass.
pub(super) struct Gradients<B: Backend> {
    pub x: FloatTensor<B>,
    pub gamma: FloatTensor<B>,
    pub beta: FloatTensor<B>,
    /// dy, set to 0 where the ReLU's output was 0.
    pub residual: FloatTensor<B>,
}

/// The backward passes on plain tensors.
pub(super) trait NormKernels: NormOps {
    /// Computes all gradients. `kept` is what the forward pass returned: mean, variance, and the
    /// rest in the backend's own form; `sums` is where a convolution may have delivered the
    /// gradient sums.
    fn by_batch_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        kept: [FloatTensor<Self>; 3],
        dy: FloatTensor<Self>,
        sums: Option<&GradientSums>,
        spec: &Spec,
    ) -> Gradients<Self>;

    /// Computes the first half for a share of a batch: partial sums Σ g and Σ g·(x − mean) of each
    /// channel, `[C·parts·2]`, and g, or dy where the second half applies the mask itself.
    fn by_batch_sums(
        x: FloatTensor<Self>,
        kept: [FloatTensor<Self>; 3],
        dy: FloatTensor<Self>,
        spec: &Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Computes the second half: dx and the residual's gradient, from dy, the tensor that the first
    /// half returned, and the sums over the whole batch, `[C·2]`, with its number of values per
    /// channel.
    fn by_batch_input(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        kept: [FloatTensor<Self>; 3],
        gradients: [FloatTensor<Self>; 2],
        sums: (FloatTensor<Self>, usize),
        spec: &Spec,
    ) -> [FloatTensor<Self>; 2];

    /// Computes dx and the residual's gradient from γ and variance; `y` is given if a ReLU follows.
    fn by_running_backward(
        layer: [FloatTensor<Self>; 2],
        y: Option<FloatTensor<Self>>,
        dy: FloatTensor<Self>,
        spec: &Spec,
    ) -> [FloatTensor<Self>; 2];
}

#[derive(Debug)]
struct ByBatchBackward;

impl<B: NormKernels> Backward<B, 4> for ByBatchBackward {
    /// Nodes of x and γ, what the forward pass kept, and the arguments.
    type State = ([NodeId; 2], [FloatTensor<B>; 3], ByBatch, Spec);

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Registered,
        checkpointer: &mut Checkpointer,
    ) {
        let (stored, kept, ByBatch { source, sums }, spec) = ops.state;
        let [x, gamma] = stored.map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id));
        let dy = grads.consume::<B>(&ops.node);
        let back = match source {
            Source::Batch(batch) => backward_in::<B>(&batch, x, gamma, kept, dy, &spec),
            Source::Input | Source::Parts(_) => {
                B::by_batch_backward(x, gamma, kept, dy, sums.as_deref(), &spec)
            }
        };
        let [to_x, to_gamma, to_beta, to_residual] = ops.parents;
        let to_residual = to_residual.filter(|_| spec.residual);
        let all = [
            (to_x, back.x),
            (to_gamma, back.gamma),
            (to_beta, back.beta),
            (to_residual, back.residual),
        ];
        for (node, gradient) in all {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Computes all gradients for a share of a batch.
fn backward_in<B: NormKernels>(
    batch: &Batch,
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    kept: [FloatTensor<B>; 3],
    dy: FloatTensor<B>,
    spec: &Spec,
) -> Gradients<B> {
    let (parts, masked) = B::by_batch_sums(x.clone(), kept.clone(), dy.clone(), spec);
    let device = parts.device();
    let Sums { own, all } = batch.sums::<B>(parts);
    let tensor = |values: Vec<f32>| B::float_from_data(TensorData::from(&values[..]), &device);
    // The lanes' gradients of γ and β are added up later, like all others.
    let d_gamma = own.iter().zip(&batch.rstd).map(|([_, sum_gx], rstd)| (sum_gx * rstd) as f32);
    let d_beta = own.iter().map(|[sum_g, _]| *sum_g as f32);
    let (d_gamma, d_beta) = (tensor(d_gamma.collect()), tensor(d_beta.collect()));
    let sums = tensor(all.as_flattened().iter().map(|&sum| sum as f32).collect());
    let [dx, residual] =
        B::by_batch_input(x, gamma, kept, [dy, masked], (sums, batch.values), spec);
    Gradients { x: dx, gamma: d_gamma, beta: d_beta, residual }
}

#[derive(Debug)]
struct SumAcrossLanes;

impl<B: NormKernels> Backward<B, 1> for SumAcrossLanes {
    type State = Arc<dyn Exchange>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Registered, _: &mut Checkpointer) {
        let own = grads.consume::<B>(&ops.node);
        let sum = B::sum_across_lanes(own, ops.state);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, sum);
        }
    }
}

#[derive(Debug)]
struct ByRunning;

impl<B: NormKernels> Backward<B, 2> for ByRunning {
    /// γ and variance, y, and the parameters.
    type State = ([FloatTensor<B>; 2], Option<FloatTensor<B>>, Spec);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Registered, _: &mut Checkpointer) {
        let (layer, y, spec) = ops.state;
        let dy = grads.consume::<B>(&ops.node);
        let [to_x, to_residual] = ops.parents;
        let [dx, residual] = B::by_running_backward(layer, y, dy, &spec);
        if let Some(node) = to_x {
            grads.register::<B>(node.id, dx);
        }
        if let Some(node) = to_residual.filter(|_| spec.residual) {
            grads.register::<B>(node.id, residual);
        }
    }
}

impl<B: NormKernels, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn norm_by_batch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        by: ByBatch,
        spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), gamma.node(), beta.node(), residual.node()];
        let forward = |x: FloatTensor<Self>, gamma: FloatTensor<Self>| {
            let [x, gamma, beta, residual, moments] =
                [x, gamma, beta, residual, moments].map(FloatTensor::<Self>::into_primitive);
            B::norm_by_batch(x, gamma, beta, residual, moments, by.clone(), spec)
        };
        let ways = ByBatchBackward.prepare::<C>(nodes).compute_bound();
        let (y, mean, variance, rest) = match ways.stateful() {
            OpsKind::Tracked(mut prep) => {
                let stored = [prep.checkpoint(&x), prep.checkpoint(&gamma)];
                let (y, mean, variance, rest) = forward(x, gamma);
                let kept = [&mean, &variance, &rest].map(Clone::clone);
                (prep.finish((stored, kept, by, spec), y), mean, variance, rest)
            }
            OpsKind::UnTracked(prep) => {
                let (y, mean, variance, rest) = forward(x, gamma);
                (prep.finish(y), mean, variance, rest)
            }
        };
        let constant = FloatTensor::<Self>::new;
        (y, constant(mean), constant(variance), constant(rest))
    }

    fn norm_statistics(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        slice: Option<usize>,
        spec: Spec,
    ) -> FloatTensor<Self> {
        let [x, moments] = [x, moments].map(FloatTensor::<Self>::into_primitive);
        FloatTensor::<Self>::new(B::norm_statistics(x, moments, slice, spec))
    }

    fn sum_across_lanes(own: FloatTensor<Self>, exchange: Arc<dyn Exchange>) -> FloatTensor<Self> {
        let node = own.node();
        let sum = B::sum_across_lanes(own.into_primitive(), Arc::clone(&exchange));
        match SumAcrossLanes.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(exchange, sum),
            OpsKind::UnTracked(prep) => prep.finish(sum),
        }
    }

    fn norm_by_running(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        spec: Spec,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), residual.node()];
        let [x, gamma, beta, mean, variance, residual] =
            [x, gamma, beta, mean, variance, residual].map(FloatTensor::<Self>::into_primitive);
        let layer = [gamma.clone(), variance.clone()];
        let y = B::norm_by_running(x, gamma, beta, mean, variance, residual, spec);
        match ByRunning.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = spec.relu.then(|| y.clone());
                prep.finish((layer, kept, spec), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
