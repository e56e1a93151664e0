//! The convolution as an operation of Burn's backends, with its gradients.

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

/// The forward pass as Burn dispatches it; gradients come with `Autodiff`'s implementation.
#[backend_extension(Autodiff, Cube, Flex)]
pub(crate) trait ConvOps: Backend {
    /// `y` from `x` and `w`, and with `moments` the statistics of `y`, which are not differentiable
    /// ([`super::wgsl::PlanWithParts`]; else `w`). With `sums` a normalisation made `x`, and is left what
    /// its backward pass needs of `dx`: `norm` is what it normalised, and what it kept.
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
    /// `dx` from `dy` and `w`; the `producer` of `x` is left what it needs of `dx`, where the pass gives it.
    fn input_gradient(
        dy: FloatTensor<Self>,
        w: FloatTensor<Self>,
        producer: Option<Producer<Self>>,
        shape: &ConvShape,
    ) -> FloatTensor<Self>;

    /// `dw` from `x` and `dy`.
    fn weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        shape: &ConvShape,
    ) -> FloatTensor<Self>;
}

/// The normalisation that made `x`.
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
            /// `x` where `w` is tracked, `w` where `x` is; what made `x`.
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

/// Executes a pass's plan, with activations stored this way, on operands as [`ConvPass`] has them.
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

/// The size of a pass's result and how it is stored.
pub(super) fn result(pass: ConvPass, shape: &ConvShape, stored: Storage) -> ([usize; 5], Storage) {
    match pass {
        ConvPass::Forward => (shape.y(), stored),
        ConvPass::InputGradient => (shape.x(), stored.gradient()),
        ConvPass::WeightGradient => (shape.w(), Storage::F32),
    }
}

/// Executes a pass's plan like [`run`] into a tensor, which must be contiguous.
pub(super) fn run_into(plan: &ConvPlan, [a, b]: [CubeTensor; 2], out: &CubeTensor) {
    let [a, b] = [a, b].map(launch::stored);
    launch::run(&a.client, plan, &[&a.handle, &b.handle, &out.handle]);
}

/// A forward pass that gives the statistics of its output too.
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

/// An input gradient that gives the sums its normalisation needs too.
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

/// A pass on a device for which [`super::has_kernels`] holds.
fn on_cube(pass: ConvPass, shape: &ConvShape, operands: [CubeTensor; 2]) -> CubeTensor {
    #[cfg(feature = "cuda")]
    if cuda::serves(&operands[0].device) {
        return cuda::run(pass, shape, operands);
    }
    let [first, _] = &operands;
    let plan = plans::plan(&first.device, pass, shape, first.dtype);
    let (plan, stored) = (plan.expect("conv3d dispatches only what has plans"), storage(first));
    run(pass, shape, stored, &plan, operands)
}

/// How the kernels of its device see a tensor.
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
            let (dx, found) =
                run_with_gradient_sums(shape, storage(&dy), &plan, [dy, w], [x, kept]);
            sums.deliver(&dx, found);
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
            let plan = plan.expect("moments are asked for only where there is a plan with them");
            return run_with_moments(&shape, storage(&x), &plan, [x, w]);
        }
        (on_cube(ConvPass::Forward, &shape, [x, w.clone()]), w)
    }
}
