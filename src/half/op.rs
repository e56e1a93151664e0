//! Conversions, and sums of gradients, as operations of Burn's backends.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType};

use super::wgsl::{self, CastKernel};
use crate::kernels::storage::Storage;
use crate::kernels::{host, launch};

/// The operations as Burn dispatches them; the implementation for `Autodiff` adds the gradients.
#[backend_extension(Autodiff, Cube, Flex)]
pub(crate) trait HalfOps: Backend {
    /// Converts the values to another type.
    fn cast_stored(x: FloatTensor<Self>, to: FloatDType) -> FloatTensor<Self>;

    /// Returns the tensor twice.
    fn fork(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Operations of the backward passes, on plain tensors.
trait HalfKernels: HalfOps {
    /// Converts a gradient to another type.
    fn cast_gradient(gradient: FloatTensor<Self>, to: FloatDType) -> FloatTensor<Self>;

    /// Adds two gradients of the same type.
    fn add_gradients(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl HalfOps for Flex {
    fn cast_stored(x: FlexTensor, to: FloatDType) -> FlexTensor {
        Self::float_cast(x, to)
    }

    fn fork(x: FlexTensor) -> (FlexTensor, FlexTensor) {
        (x.clone(), x)
    }
}

impl HalfKernels for Flex {
    fn cast_gradient(gradient: FlexTensor, to: FloatDType) -> FlexTensor {
        Self::float_cast(gradient, to)
    }

    fn add_gradients(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if [&a, &b].iter().any(|gradient| gradient.dtype() != DType::F32) {
            return Self::float_add(a, b);
        }
        let mut sum = host::whole(a);
        polyview_cpu::sum::add(sum.storage_mut(), &host::values(&b));
        sum
    }
}

impl HalfOps for CubeBackend {
    fn cast_stored(x: CubeTensor, to: FloatDType) -> CubeTensor {
        cast(&x, to, false).unwrap_or_else(|| Self::float_cast(x, to))
    }

    fn fork(x: CubeTensor) -> (CubeTensor, CubeTensor) {
        (x.clone(), x)
    }
}

impl HalfKernels for CubeBackend {
    fn cast_gradient(gradient: CubeTensor, to: FloatDType) -> CubeTensor {
        cast(&gradient, to, true).unwrap_or_else(|| Self::float_cast(gradient, to))
    }

    fn add_gradients(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        add(&a, &b).unwrap_or_else(|| Self::float_add(a, b))
    }
}

/// Converts `x` with our kernel; `None` where the kernel cannot do it.
fn cast(x: &CubeTensor, to: FloatDType, is_gradient: bool) -> Option<CubeTensor> {
    let limits = launch::limits(&x.device)?;
    let half = Storage::of(DType::F16, &limits);
    let (kernel, target) = match (x.dtype, to) {
        (DType::F32, FloatDType::F16) if is_gradient => {
            (CastKernel::ToHalf(Storage::Gradient), Storage::Gradient)
        }
        (DType::F32, FloatDType::F16) => (CastKernel::ToHalf(half), half),
        (DType::F16, FloatDType::F32) => (CastKernel::ToFloat(half), Storage::F32),
        _ => return None,
    };
    run(kernel, &[x], target)
}

/// Adds two gradients in half precision, likewise.
fn add(a: &CubeTensor, b: &CubeTensor) -> Option<CubeTensor> {
    let half = [a, b].iter().all(|gradient| gradient.dtype == DType::F16);
    if half { run(CastKernel::Add, &[a, b], Storage::Gradient) } else { None }
}

fn run(kernel: CastKernel, operands: &[&CubeTensor], target: Storage) -> Option<CubeTensor> {
    let first = operands.first()?;
    let (shape, limits) = (first.shape(), launch::limits(&first.device)?);
    let plan = wgsl::plan(kernel, shape.num_elements(), &limits)
        .inspect_err(|error| log::debug!("Burn's operation is used for {shape:?}: {error}"))
        .ok()?;
    let operands: Vec<_> =
        operands.iter().map(|&operand| launch::stored(operand.clone())).collect();
    let y = launch::empty_stored(first, shape, target);
    let handles: Vec<_> = operands.iter().chain([&y]).map(|tensor| &tensor.handle).collect();
    launch::run(&y.client, &plan, &handles);
    Some(y)
}

/// Converts a tensor, written by a kernel of this device, to the type of `like`.
pub(super) fn converted(y: CubeTensor, like: &CubeTensor, is_gradient: bool) -> CubeTensor {
    if y.dtype == like.dtype {
        return y;
    }
    cast(&y, like.dtype.into(), is_gradient).expect("a tensor that a kernel wrote can be converted")
}

#[derive(Debug)]
struct Cast;

impl<B: HalfKernels> Backward<B, 1> for Cast {
    /// Type of the operand, to which its gradient is converted.
    type State = FloatDType;

    fn backward(self, ops: Ops<FloatDType, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::cast_gradient(gradient, ops.state));
        }
    }
}

/// Gradient of the branch of a fork that comes first; the other branch adds its own.
type FirstGradient<B> = Arc<Mutex<Option<FloatTensor<B>>>>;

#[derive(Debug)]
struct Branch;

impl<B: HalfKernels> Backward<B, 1> for Branch {
    type State = FirstGradient<B>;

    fn backward(self, ops: Ops<FirstGradient<B>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        let mut waiting = ops.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match (parent, waiting.take()) {
            (Some(node), Some(other)) => {
                grads.register::<B>(node.id, B::add_gradients(other, gradient));
            }
            _ => *waiting = Some(gradient),
        }
    }
}

impl<B: HalfKernels, C: CheckpointStrategy> HalfOps for Autodiff<B, C> {
    fn cast_stored(x: FloatTensor<Self>, to: FloatDType) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let x = x.into_primitive();
        let from = FloatDType::from(x.dtype());
        match Cast.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(from, B::cast_stored(x, to)),
            OpsKind::UnTracked(prep) => prep.finish(B::cast_stored(x, to)),
        }
    }

    fn fork(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let first_gradient = FirstGradient::<B>::default();
        let (first, second) = (x.node(), x.node());
        let (a, b) = B::fork(x.into_primitive());
        let branch = |node, x| match Branch.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Arc::clone(&first_gradient), x),
            OpsKind::UnTracked(prep) => prep.finish(x),
        };
        (branch(first, a), branch(second, b))
    }
}
