//! Convolution on CUDA: Burn's implicit GEMM on matrix units where it can run, which in f32 rounds
//! operands to TF32 as PyTorch's convolutions do, and Burn's direct convolution elsewhere. Burn
//! itself would always take the direct one, for autotuning is not built in.

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

/// Whether [`run`] is for this device.
pub(super) fn serves(device: &CubeDevice) -> bool {
    matches!(device, CubeDevice::Cuda(_))
}

/// A pass of operands as [`ConvPass`] has them.
pub(super) fn run(pass: ConvPass, shape: &ConvShape, [a, b]: [CubeTensor; 2]) -> CubeTensor {
    let options = ConvOptions::new(shape.stride, shape.padding, [1, 1, 1], 1);
    by_gemm(pass, shape, [a.clone(), b.clone()], options.clone())
        .unwrap_or_else(|| direct(pass, shape, [a, b], options))
}

/// On matrix units; `None` where they cannot do it.
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

/// Burn's direct convolution, which reads only the sizes of the tensor whose gradient it computes.
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
