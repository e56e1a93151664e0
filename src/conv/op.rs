//! The convolution as an operation of Burn's backends, with its gradients.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor};
use polyview_cpu::conv as cpu;

#[cfg(feature = "cuda")]
use super::cuda;
use super::wgsl::{self, Choice, Pass};
use super::{ConvShape, chosen};
use crate::kernels::plan::{DeviceLimits, PlanError};
use crate::kernels::pool::Buffer;
use crate::kernels::{host, launch, limits};

/// The forward pass as Burn dispatches it; gradients come with `Autodiff`'s implementation.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait ConvOps: Backend {
    /// `y` from `x` and `w`.
    fn conv3d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        shape: ConvShape,
    ) -> FloatTensor<Self>;
}

/// The three passes on plain tensors.
trait ConvKernels: Backend {
    /// `y` from `x` and `w`.
    fn forward(x: FloatTensor<Self>, w: FloatTensor<Self>, shape: &ConvShape) -> FloatTensor<Self>;

    /// `dx` from `dy` and `w`.
    fn input_gradient(
        dy: FloatTensor<Self>,
        w: FloatTensor<Self>,
        shape: &ConvShape,
    ) -> FloatTensor<Self>;

    /// `dw` from `x` and `dy`.
    fn weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        shape: &ConvShape,
    ) -> FloatTensor<Self>;
}

/// The differentiable operation over the passes.
impl<B: ConvKernels, C: CheckpointStrategy> ConvOps for Autodiff<B, C> {
    fn conv3d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        shape: ConvShape,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Conv;

        impl<B: ConvKernels> Backward<B, 2> for Conv {
            /// `x` where `w` is tracked, `w` where `x` is.
            type State = (Option<NodeId>, Option<NodeId>, ConvShape);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                checkpointer: &mut Checkpointer,
            ) {
                let [to_x, to_w] = ops.parents;
                let (x, w, shape) = ops.state;
                let dy = grads.consume::<B>(&ops.node);
                let mut stored = |id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id);
                let (x, w) = (x.map(&mut stored), w.map(&mut stored));
                if let (Some(node), Some(w)) = (to_x, w) {
                    grads.register::<B>(node.id, B::input_gradient(dy.clone(), w, &shape));
                }
                if let (Some(node), Some(x)) = (to_w, x) {
                    grads.register::<B>(node.id, B::weight_gradient(x, dy, &shape));
                }
            }
        }

        match Conv.prepare::<C>([x.node(), w.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let stored_x = w.is_tracked().then(|| prep.checkpoint(&x));
                let stored_w = x.is_tracked().then(|| prep.checkpoint(&w));
                let y = B::forward(x.into_primitive(), w.into_primitive(), &shape);
                prep.finish((stored_x, stored_w, shape), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::forward(x.into_primitive(), w.into_primitive(), &shape))
            }
        }
    }
}

impl ConvKernels for Flex {
    fn forward(x: FlexTensor, w: FlexTensor, shape: &ConvShape) -> FlexTensor {
        let mut y = Buffer::new(shape.output_len());
        cpu::forward(shape, &host::values(&x), &host::values(&w), y.values());
        y.into_tensor(shape.y())
    }

    fn input_gradient(dy: FlexTensor, w: FlexTensor, shape: &ConvShape) -> FlexTensor {
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
    fn conv3d_forward(x: FlexTensor, w: FlexTensor, shape: ConvShape) -> FlexTensor {
        Self::forward(x, w, &shape)
    }
}

/// Whether the shaders serve all three passes of this convolution on this device.
pub(super) fn on_wgsl(shape: &ConvShape, device: &Device) -> bool {
    let Some(limits) = limits(device) else { return false };
    let passes = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];
    let refused = passes.into_iter().find_map(|pass| chosen::plan(pass, shape, &limits).err());
    if let Some(reason) = refused {
        log::debug!("{shape:?} takes Burn's convolution: {reason}");
    }
    refused.is_none()
}

/// Queues a pass; `None` where an operand is not f32.
pub(super) fn run(
    pass: Pass,
    shape: &ConvShape,
    plan: &wgsl::Plan,
    [a, b]: [&CubeTensor; 2],
) -> Option<CubeTensor> {
    if [a, b].iter().any(|tensor| tensor.dtype != DType::F32) {
        return None;
    }
    let (a, b) = (launch::contiguous(a.clone()), launch::contiguous(b.clone()));
    let target = match pass {
        Pass::Forward => shape.y(),
        Pass::InputGradient => shape.x(),
        Pass::WeightGradient => shape.w(),
    };
    let out = launch::empty(&a, target);
    launch::run(&a.client, plan, &[&a.handle, &b.handle, &out.handle]);
    Some(out)
}

/// The same with the shape's own plan; `None` where the shaders do not serve it.
fn planned(pass: Pass, shape: &ConvShape, operands: [&CubeTensor; 2]) -> Option<CubeTensor> {
    let limits = launch::limits(&operands[0].device)?;
    run(pass, shape, chosen::plan(pass, shape, &limits).ok()?.as_ref(), operands)
}

/// One pass by itself, planned as for a device with other limits than the tensors' own and in the
/// way that `choice` says (tests of kernels that this device would not choose). Operands as [`Pass`]
/// has them. `None` where the device takes no WGSL.
pub fn pass_as_on(
    limits: impl FnOnce(DeviceLimits) -> DeviceLimits,
    choice: Option<Choice>,
    pass: Pass,
    shape: &ConvShape,
    operands: [Tensor<5>; 2],
) -> Option<Result<Tensor<5>, PlanError>> {
    let [a, b] = operands.map(|tensor| tensor.try_into_primitive::<CubeBackend>().ok());
    let (a, b) = (a?, b?);
    let plan = match wgsl::plan_as(pass, shape, &limits(launch::limits(&a.device)?), choice) {
        Ok(plan) => plan,
        Err(error) => return Some(Err(error)),
    };
    run(pass, shape, &plan, [&a, &b]).map(|out| Ok(Tensor::from_primitive::<CubeBackend>(out)))
}

fn options(shape: &ConvShape) -> ConvOptions<3> {
    ConvOptions::new(shape.stride, shape.padding, [1, 1, 1], 1)
}

/// The pass by a kernel that is chosen here: a shader, or matrix units through CUDA.
fn by_kernel(pass: Pass, shape: &ConvShape, operands: [&CubeTensor; 2]) -> Option<CubeTensor> {
    #[cfg(feature = "cuda")]
    if let Some(out) = cuda::run(pass, shape, operands, options(shape)) {
        return Some(out);
    }
    planned(pass, shape, operands)
}

/// Kernels chosen here, and Burn's own passes where they do not serve.
impl ConvKernels for CubeBackend {
    fn forward(x: CubeTensor, w: CubeTensor, shape: &ConvShape) -> CubeTensor {
        by_kernel(Pass::Forward, shape, [&x, &w])
            .unwrap_or_else(|| Self::conv3d(x, w, None, options(shape)))
    }

    fn input_gradient(dy: CubeTensor, w: CubeTensor, shape: &ConvShape) -> CubeTensor {
        by_kernel(Pass::InputGradient, shape, [&dy, &w]).unwrap_or_else(|| {
            // Only the sizes of x are looked at.
            let x = launch::empty(&dy, shape.x());
            Self::conv3d_x_backward(x, w, dy, options(shape))
        })
    }

    fn weight_gradient(x: CubeTensor, dy: CubeTensor, shape: &ConvShape) -> CubeTensor {
        by_kernel(Pass::WeightGradient, shape, [&x, &dy]).unwrap_or_else(|| {
            let w = launch::empty(&dy, shape.w());
            Self::conv3d_weight_backward(x, w, dy, options(shape))
        })
    }
}

impl ConvOps for CubeBackend {
    fn conv3d_forward(x: CubeTensor, w: CubeTensor, shape: ConvShape) -> CubeTensor {
        Self::forward(x, w, &shape)
    }
}
