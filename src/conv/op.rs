//! The convolution as an operation of Burn's backends, including its gradients.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use polyview_cpu::conv as cpu;

#[cfg(feature = "cuda")]
use super::cuda;
use super::wgsl::{ConvPass, ConvPlan, PlanWithParts};
use super::{ConvShape, plans};
use crate::kernels::pool::Buffer;
use crate::kernels::storage::Storage;
use crate::kernels::{host, launch};
use crate::norm::{GradientSums, SumsInParts};

/// The forward pass as Burn dispatches it; the implementation for `Autodiff` adds the gradients.
#[backend_extension(Autodiff, Cube, Flex)]
pub(crate) trait ConvOps: Backend {
    /// Computes `y` from `x` and `w`. The second result is the statistics of `y` with `moments`
    /// ([`super::wgsl::PlanWithParts`]; not differentiable), else a placeholder (`w`). With `sums`,
    /// a normalisation made `x`, and the backward pass stores the gradient sums of `dx` for it:
    /// `norm_x` is the input of that normalisation, `norm_kept` the state that its forward pass
    /// saved.
    fn conv3d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        norm_x: FloatTensor<Self>,
        norm_kept: FloatTensor<Self>,
        shape: ConvShape,
        moments: bool,
        sums: Option<Arc<GradientSums>>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The three passes on plain tensors.
trait ConvKernels: ConvOps {
    /// Computes `dx` from `dy` and `w`, and the gradient sums for the `producer` of `x` if the
    /// device's pass supports that.
    fn input_gradient(
        dy: FloatTensor<Self>,
        w: FloatTensor<Self>,
        producer: Option<Producer<Self>>,
        shape: &ConvShape,
    ) -> FloatTensor<Self>;

    /// Computes `dw` from `x` and `dy`.
    fn weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        shape: &ConvShape,
    ) -> FloatTensor<Self>;
}

/// The normalisation that made `x`: its input, its saved state, and where to store the sums for it.
#[derive(Debug, Clone)]
struct Producer<B: Backend> {
    x: FloatTensor<B>,
    kept: FloatTensor<B>,
    sums: Arc<GradientSums>,
}

/// The differentiable operation over the passes.
impl<B: ConvKernels, C: CheckpointStrategy> ConvOps for Autodiff<B, C> {
    fn conv3d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        norm_x: FloatTensor<Self>,
        norm_kept: FloatTensor<Self>,
        shape: ConvShape,
        moments: bool,
        sums: Option<Arc<GradientSums>>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Conv;

        impl<B: ConvKernels> Backward<B, 2> for Conv {
            /// `x` if `w` is tracked, `w` if `x` is tracked, the producer of `x`, and the shape.
            type State = (Option<NodeId>, Option<NodeId>, Option<Producer<B>>, ConvShape);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                checkpointer: &mut Checkpointer,
            ) {
                let [to_x, to_w] = ops.parents;
                let (x, w, producer, shape) = ops.state;
                let dy = grads.consume::<B>(&ops.node);
                let mut stored = |id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id);
                let (x, w) = (x.map(&mut stored), w.map(&mut stored));
                if let (Some(node), Some(w)) = (to_x, w) {
                    let dx = B::input_gradient(dy.clone(), w, producer, &shape);
                    grads.register::<B>(node.id, dx);
                }
                if let (Some(node), Some(x)) = (to_w, x) {
                    grads.register::<B>(node.id, B::weight_gradient(x, dy, &shape));
                }
            }
        }

        let [norm_x, norm_kept] = [norm_x, norm_kept].map(FloatTensor::<Self>::into_primitive);
        let producer =
            sums.map(|sums| Producer { x: norm_x.clone(), kept: norm_kept.clone(), sums });
        let forward = |x: FloatTensor<Self>, w: FloatTensor<Self>| {
            let (x, w) = (x.into_primitive(), w.into_primitive());
            B::conv3d_forward(x, w, norm_x, norm_kept, shape, moments, None)
        };
        let (y, moments) = match Conv.prepare::<C>([x.node(), w.node()]).compute_bound().stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let stored_x = w.is_tracked().then(|| prep.checkpoint(&x));
                let stored_w = x.is_tracked().then(|| prep.checkpoint(&w));
                let (y, moments) = forward(x, w);
                (prep.finish((stored_x, stored_w, producer, shape), y), moments)
            }
            OpsKind::UnTracked(prep) => {
                let (y, moments) = forward(x, w);
                (prep.finish(y), moments)
            }
        };
        (y, FloatTensor::<Self>::new(moments))
    }
}

impl ConvKernels for Flex {
    fn input_gradient(
        dy: FlexTensor,
        w: FlexTensor,
        _: Option<Producer<Self>>,
        shape: &ConvShape,
    ) -> FlexTensor {
        let mut dx = Buffer::new(shape.input_len());
        cpu::input_gradient(shape, &host::values(&dy), &host::values(&w), dx.values());
        dx.into_tensor(shape.x())
    }

    fn weight_gradient(x: FlexTensor, dy: FlexTensor, shape: &ConvShape) -> FlexTensor {
        let mut dw = Buffer::new(shape.weight_len());
        cpu::weight_gradient(shape, &host::values(&x), &host::values(&dy), dw.values());
        dw.into_tensor(shape.w())
    }
}

impl ConvOps for Flex {
    fn conv3d_forward(
        x: FlexTensor,
        w: FlexTensor,
        _: FlexTensor,
        _: FlexTensor,
        shape: ConvShape,
        _: bool,
        _: Option<Arc<GradientSums>>,
    ) -> (FlexTensor, FlexTensor) {
        let mut y = Buffer::new(shape.output_len());
        cpu::forward(&shape, &host::values(&x), &host::values(&w), y.values());
        (y.into_tensor(shape.y()), w)
    }
}

/// Runs a pass's plan on the operands listed at [`ConvPass`], with activations stored as `stored`.
pub(super) fn run(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    plan: &ConvPlan,
    [a, b]: [CubeTensor; 2],
) -> CubeTensor {
    let [a, b] = [a, b].map(launch::stored);
    let (target, stored) = result(pass, shape, stored);
    let out = launch::empty_stored(&a, target, stored);
    launch::run(&a.client, plan, &[&a.handle, &b.handle, &out.handle]);
    out
}

/// Returns the size of a pass's result and how it is stored.
pub(super) fn result(pass: ConvPass, shape: &ConvShape, stored: Storage) -> ([usize; 5], Storage) {
    match pass {
        ConvPass::Forward => (shape.y(), stored),
        ConvPass::InputGradient => (shape.x(), stored.gradient()),
        ConvPass::WeightGradient => (shape.w(), Storage::F32),
    }
}

/// Like [`run`], but writes into an existing tensor, which must be contiguous.
pub(super) fn run_into(plan: &ConvPlan, [a, b]: [CubeTensor; 2], out: &CubeTensor) {
    let [a, b] = [a, b].map(launch::stored);
    launch::run(&a.client, plan, &[&a.handle, &b.handle, &out.handle]);
}

/// Runs a forward pass that also computes the statistics of its output.
pub(super) fn run_with_moments(
    shape: &ConvShape,
    stored: Storage,
    plan: &PlanWithParts,
    [x, w]: [CubeTensor; 2],
) -> (CubeTensor, CubeTensor) {
    let (x, w) = (launch::stored(x), launch::contiguous(w));
    let y = launch::empty_stored(&x, shape.y(), stored);
    let moments = launch::empty(&x, [2 * shape.out_channels * plan.parts]);
    let operands = [&x, &w, &y, &moments].map(|tensor| &tensor.handle);
    launch::run(&x.client, &plan.plan, &operands);
    (y, moments)
}

/// Runs an input-gradient pass that also computes the sums for the normalisation that made `x`.
pub(super) fn run_with_gradient_sums(
    shape: &ConvShape,
    stored: Storage,
    plan: &PlanWithParts,
    operands: [CubeTensor; 2],
    norm: [CubeTensor; 2],
) -> (CubeTensor, SumsInParts) {
    let [dy, w] = operands.map(launch::stored);
    let [norm_x, kept] = norm.map(launch::stored);
    let dx = launch::empty_stored(&dy, shape.x(), stored.gradient());
    let parts = launch::empty(&dy, [2 * shape.in_channels * plan.parts]);
    let operands = [&dy, &w, &dx, &parts, &norm_x, &kept].map(|tensor| &tensor.handle);
    launch::run(&dy.client, &plan.plan, &operands);
    (dx, SumsInParts { parts, slice: plan.slice })
}

/// Runs a pass on a device for which [`super::has_kernels`] holds.
fn on_cube(pass: ConvPass, shape: &ConvShape, operands: [CubeTensor; 2]) -> CubeTensor {
    #[cfg(feature = "cuda")]
    if cuda::serves(&operands[0].device) {
        return cuda::run(pass, shape, operands);
    }
    let [first, _] = &operands;
    let plan = plans::plan(&first.device, pass, shape, first.dtype);
    let (plan, stored) =
        (plan.expect("conv3d only dispatches shapes that have plans"), storage(first));
    run(pass, shape, stored, &plan, operands)
}

/// Returns how the kernels of a tensor's device access it.
fn storage(of: &CubeTensor) -> Storage {
    let limits = launch::limits(&of.device).expect("a device with plans has limits");
    Storage::of(of.dtype, &limits)
}

impl ConvKernels for CubeBackend {
    fn input_gradient(
        dy: CubeTensor,
        w: CubeTensor,
        producer: Option<Producer<Self>>,
        shape: &ConvShape,
    ) -> CubeTensor {
        if let Some(Producer { x, kept, sums }) = producer
            && let Some(plan) =
                plans::with_parts(&dy.device, ConvPass::InputGradient, shape, dy.dtype)
        {
            let (dx, computed) =
                run_with_gradient_sums(shape, storage(&dy), &plan, [dy, w], [x, kept]);
            sums.deliver(&dx, computed);
            return dx;
        }
        on_cube(ConvPass::InputGradient, shape, [dy, w])
    }

    fn weight_gradient(x: CubeTensor, dy: CubeTensor, shape: &ConvShape) -> CubeTensor {
        on_cube(ConvPass::WeightGradient, shape, [x, dy])
    }
}

impl ConvOps for CubeBackend {
    fn conv3d_forward(
        x: CubeTensor,
        w: CubeTensor,
        _: CubeTensor,
        _: CubeTensor,
        shape: ConvShape,
        moments: bool,
        _: Option<Arc<GradientSums>>,
    ) -> (CubeTensor, CubeTensor) {
        if moments {
            let plan = plans::with_parts(&x.device, ConvPass::Forward, &shape, x.dtype);
            let plan = plan.expect("moments are only requested if there is a plan with them");
            return run_with_moments(&shape, storage(&x), &plan, [x, w]);
        }
        (on_cube(ConvPass::Forward, &shape, [x, w.clone()]), w)
    }
}
