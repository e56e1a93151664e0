//! Half precision: activations, what is kept of them for the backward pass, and their gradients,
//! stored as f16. Arithmetic, statistics, weights and the gradients of weights are f32.
//!
//! An operation on activations stores its result as it found its input, and the gradient of its input
//! as the input. What begins with [`to_half`] is in half precision from there on, up to [`to_float`].
//! Gradients are small: they are multiplied by a loss scale ([`crate::train::LossScale`]), and one that
//! is too large for f16 becomes NaN.

mod op;
mod precision;
pub(crate) mod wgsl;

use burn::backend::Dispatch;
use burn::backend::wgpu::CubeTensor;
use burn::tensor::{DType, FloatDType, Tensor};

use crate::kernels::Implementation;
use op::HalfOps;
pub use precision::{Precision, describe};

/// Whether some of these f16 are infinite or NaN, as values become that are beyond the range.
pub(crate) fn beyond_range(bytes: &[u8]) -> bool {
    // Exponent bits all set.
    let bits = bytes.as_chunks::<2>().0.iter();
    bits.map(|&bits| u16::from_ne_bytes(bits)).any(|bits| bits & 0x7c00 == 0x7c00)
}

/// Whether a tensor is in half precision.
pub fn is_half<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F16
}

/// The tensor in half precision; values beyond its range become its largest. Differentiable.
pub fn to_half<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    cast(x, FloatDType::F16)
}

/// The tensor in f32. Differentiable.
pub fn to_float<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    cast(x, FloatDType::F32)
}

/// The tensor in half precision or in f32.
pub(crate) fn stored<const D: usize>(x: Tensor<D>, half: bool) -> Tensor<D> {
    if half { to_half(x) } else { to_float(x) }
}

fn cast<const D: usize>(x: Tensor<D>, to: FloatDType) -> Tensor<D> {
    if x.dtype() == DType::from(to) {
        return x;
    }
    Tensor::from_dispatch(Dispatch::cast_stored(x.into_dispatch(), to))
}

/// The tensor for two users. The sum of their gradients is what x would get from both; on the CPU
/// Burn adds them in one thread, and in half precision only where shaders have f16.
pub fn fork<const D: usize>(x: Tensor<D>) -> [Tensor<D>; 2] {
    if !is_half(&x) && Implementation::of_tensor(&x) != Implementation::Cpu {
        return [x.clone(), x];
    }
    let (a, b) = Dispatch::fork(x.into_dispatch());
    [a, b].map(Tensor::from_dispatch)
}

/// What a kernel wrote as `like` is stored.
///
/// # Panics
/// If the device's kernels cannot convert it, which can the tensors that they have written.
pub(crate) fn stored_as(y: CubeTensor, like: &CubeTensor) -> CubeTensor {
    op::converted(y, like, false)
}

/// A gradient that a kernel wrote as `like` is stored.
///
/// # Panics
/// As [`stored_as`].
pub(crate) fn gradient_as(gradient: CubeTensor, like: &CubeTensor) -> CubeTensor {
    op::converted(gradient, like, true)
}
