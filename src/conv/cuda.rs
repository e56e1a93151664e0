//! Convolution on CUDA: Burn's implicit GEMM on matrix units where it serves, which in f32 rounds
//! operands to TF32 as PyTorch's convolutions do, and Burn's direct convolution elsewhere. Burn
//! itself would always take the direct one, for autotuning is not built in.

use burn::backend::wgpu::CubeTensor;
use burn::backend::{CubeDevice, DispatchDevice};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Shape};
use burn_cubecl::kernel::conv::{
    ConvStrategy, conv_data_backward, conv_forward, conv_weight_backward,
};

use super::ConvShape;
use super::wgsl::Pass;

/// Whether [`run`] is for this device.
pub(super) fn serves(device: &Device) -> bool {
    let device = device.clone().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Cube(CubeDevice::Cuda(_)))
}

/// A pass of operands as [`Pass`] has them; `None` on other devices than CUDA's, and where the
/// matrix units cannot do it.
pub(super) fn run(
    pass: Pass,
    shape: &ConvShape,
    [a, b]: [&CubeTensor; 2],
    options: ConvOptions<3>,
) -> Option<CubeTensor> {
    if !matches!(a.device, CubeDevice::Cuda(_)) {
        return None;
    }
    let (a, b, gemm) = (a.clone(), b.clone(), ConvStrategy::ImplicitGemm);
    let out = match pass {
        Pass::Forward => conv_forward(a, b, None, options, gemm),
        Pass::InputGradient => conv_data_backward(a, b, Shape::from(shape.x()), options, gemm),
        Pass::WeightGradient => conv_weight_backward(a, b, Shape::from(shape.w()), options, gemm),
    };
    out.inspect_err(|error| log::debug!("{pass:?} of {shape:?}: no implicit GEMM: {error:?}")).ok()
}
