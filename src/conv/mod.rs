//! 3D convolution with kernels of its own: WGSL compute shaders on wgpu, vector code on the CPU,
//! Burn's operation elsewhere.

mod chosen;
pub mod cpu;
mod op;
mod shape;
mod trial;
pub mod wgsl;

use burn::backend::Dispatch;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module, s};

use crate::kernels::Path;
use op::ConvOps;

pub use chosen::choose;
pub use op::pass_as_on;
pub use shape::ConvShape;
pub use trial::{Trial, fastest};

/// Convolves `x [N, C, T, H, W]` with `weight [K, C, kt, kh, kw]`, without bias, to
/// `[N, K, T', H', W']`. Differentiable; a gradient that nothing asks for is not computed.
///
/// # Panics
/// If the sizes do not fit together.
pub fn conv3d(
    x: Tensor<5>,
    weight: Tensor<5>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Tensor<5> {
    let ours = match Path::of_tensor(&x) {
        Path::Stock => None,
        path => ConvShape::new(x.dims(), weight.dims(), stride, padding)
            .filter(|shape| path == Path::Host || op::on_wgsl(shape, &x.device())),
    };
    match ours {
        Some(shape) => {
            let y = Dispatch::conv3d_forward(x.into_dispatch(), weight.into_dispatch(), shape);
            Tensor::from_dispatch(y)
        }
        None => stock(x, weight, stride, padding),
    }
}

/// Burn's own convolution.
fn stock(x: Tensor<5>, weight: Tensor<5>, stride: [usize; 3], padding: [usize; 3]) -> Tensor<5> {
    let [_, _, kt, kh, kw] = weight.dims();
    // A strided 1×1×1 kernel only looks at every stride-th place, so those are picked first.
    // It is the same arithmetic, and Burn 0.22.1 on wgpu gives a wrong input gradient for the
    // direct form (relative error 1).
    let (x, stride) = if [kt, kh, kw] == [1, 1, 1] && stride != [1, 1, 1] && padding == [0; 3] {
        let [t, h, w] = stride.map(|step| step as isize);
        (x.slice(s![.., .., ..;t, ..;h, ..;w]), [1, 1, 1])
    } else {
        (x, stride)
    };
    module::conv3d(x, weight, None, ConvOptions::new(stride, padding, [1, 1, 1], 1))
}
