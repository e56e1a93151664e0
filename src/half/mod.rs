//! Half precision: activations, the values kept of them for the backward pass, and their gradients
//! are stored as f16. Arithmetic, statistics, weights and the gradients of weights are f32.
//!
//! An operation on activations stores its result in the type of its input, and the gradient of its
//! input likewise: activations are in half precision from [`to_half`] up to [`to_float`]. Gradients
//! are small: they are multiplied by a loss scale ([`crate::train::LossScale`]), and one that is
//! too large for f16 becomes NaN.

mod op;
mod precision;
pub(crate) mod wgsl;

use burn::backend::Dispatch;
use burn::backend::wgpu::CubeTensor;
use burn::tensor::{DType, FloatDType, Tensor};

use crate::kernels::Implementation;
use op::HalfOps;
pub use precision::Precision;
pub(crate) use precision::describe;

/// Whether any of these f16 values is infinite or NaN, as values beyond the range become.
pub(crate) fn beyond_range(bytes: &[u8]) -> bool {
    // Exponent bits all set.
    let bits = bytes.as_chunks::<2>().0.iter();
    bits.map(|&bits| u16::from_ne_bytes(bits)).any(|bits| bits & 0x7c00 == 0x7c00)
}

/// Whether a tensor is in half precision.
pub(crate) fn is_half<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F16
}

/// Converts a tensor to half precision; values beyond its range are clamped. Differentiable.
pub fn to_half<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    cast(x, FloatDType::F16)
}

/// Converts a tensor to f32. Differentiable.
pub fn to_float<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    cast(x, FloatDType::F32)
}

/// Converts a tensor to half precision or to f32.
pub(crate) fn stored<const D: usize>(x: Tensor<D>, half: bool) -> Tensor<D> {
    if half { to_half(x) } else { to_float(x) }
}

fn cast<const D: usize>(x: Tensor<D>, to: FloatDType) -> Tensor<D> {
    if x.dtype() == DType::from(to) {
        return x;
    }
    Tensor::from_dispatch(Dispatch::cast_stored(x.into_dispatch(), to))
}

/// Returns the tensor twice, for two consumers whose gradients are added up. Without it, Burn would
/// add them: on the CPU in one thread, and in half precision only where shaders have f16.
pub fn fork<const D: usize>(x: Tensor<D>) -> [Tensor<D>; 2] {
    if !is_half(&x) && Implementation::of_tensor(&x) != Implementation::Cpu {
        return [x.clone(), x];
    }
    let (a, b) = Dispatch::fork(x.into_dispatch());
    [a, b].map(Tensor::from_dispatch)
}

/// Converts a kernel's result to the type of `like`.
///
/// # Panics
/// If the device's kernels cannot convert it; they can convert every tensor that they have written.
pub(crate) fn stored_as(y: CubeTensor, like: &CubeTensor) -> CubeTensor {
    op::converted(y, like, false)
}

/// Converts a gradient, written by a kernel, to the type of `like`.
///
/// # Panics
/// Like [`stored_as`].
pub(crate) fn gradient_as(gradient: CubeTensor, like: &CubeTensor) -> CubeTensor {
    op::converted(gradient, like, true)
}
