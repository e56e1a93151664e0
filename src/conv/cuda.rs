//! Convolution on CUDA: Burn's implicit GEMM on matrix units where it can run, and Burn's direct
//! convolution elsewhere. In f32 the implicit GEMM rounds operands to TF32, as PyTorch's
//! convolutions do. By default Burn would always use the direct convolution, because autotuning is
//! not built in.

use burn::backend::CubeDevice;
use burn::backend::ops::ModuleOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;
use burn_cubecl::kernel::conv::{
    ConvStrategy, conv_data_backward, conv_forward, conv_weight_backward,
};

use super::ConvShape;
use super::wgsl::ConvPass;
use crate::kernels::launch;

/// Checks whether [`run`] supports this device.
pub(super) fn serves(device: &CubeDevice) -> bool {
    matches!(device, CubeDevice::Cuda(_))
}

/// Runs a pass on the operands listed at [`ConvPass`].
pub(super) fn run(pass: ConvPass, shape: &ConvShape, [a, b]: [CubeTensor; 2]) -> CubeTensor {
    let options = ConvOptions::new(shape.stride, shape.padding, [1, 1, 1], 1);
    by_gemm(pass, shape, [a.clone(), b.clone()], options.clone())
        .unwrap_or_else(|| direct(pass, shape, [a, b], options))
}

/// Runs a pass on matrix units; `None` if they cannot run it.
fn by_gemm(
    pass: ConvPass,
    shape: &ConvShape,
    [a, b]: [CubeTensor; 2],
    options: ConvOptions<3>,
) -> Option<CubeTensor> {
    let gemm = ConvStrategy::ImplicitGemm;
    let out = match pass {
        ConvPass::Forward => conv_forward(a, b, None, options, gemm),
        ConvPass::InputGradient => conv_data_backward(a, b, Shape::from(shape.x()), options, gemm),
        ConvPass::WeightGradient => {
            conv_weight_backward(a, b, Shape::from(shape.w()), options, gemm)
        }
    };
    out.inspect_err(|error| log::debug!("{pass:?} of {shape:?}: no implicit GEMM: {error:?}")).ok()
}

/// Runs Burn's direct convolution. Of the tensor whose gradient it computes, it reads only the
/// sizes.
fn direct(
    pass: ConvPass,
    shape: &ConvShape,
    [a, b]: [CubeTensor; 2],
    options: ConvOptions<3>,
) -> CubeTensor {
    match pass {
        ConvPass::Forward => CubeBackend::conv3d(a, b, None, options),
        ConvPass::InputGradient => {
            let x = launch::empty(&a, shape.x());
            CubeBackend::conv3d_x_backward(x, b, a, options)
        }
        ConvPass::WeightGradient => {
            let w = launch::empty(&b, shape.w());
            CubeBackend::conv3d_weight_backward(a, w, b, options)
        }
    }
}
