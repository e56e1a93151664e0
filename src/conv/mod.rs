//! 3D convolution with kernels of its own: WGSL compute shaders on wgpu, vector code on the CPU,
//! matrix units through Burn on CUDA, Burn's operation elsewhere.

mod chosen;
#[cfg(feature = "cuda")]
mod cuda;
mod op;
mod trial;
pub mod wgsl;

use burn::backend::Dispatch;
#[cfg(not(feature = "cuda"))]
use burn::tensor::Device;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module, s};

use crate::kernels::{Path, stock_wanted};
use op::ConvOps;

pub use chosen::choose;
pub use op::pass_as_on;
pub use polyview_cpu::conv::ConvShape;
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
    let device = x.device();
    let path = Path::of_tensor(&x);
    let on_cuda = path == Path::Stock && !stock_wanted() && cuda_serves(&device);
    let (x, stride) =
        if on_cuda { thinned(x, weight.dims(), stride, padding) } else { (x, stride) };
    let served = |shape: &ConvShape| match path {
        Path::Host => true,
        Path::Wgsl => op::on_wgsl(shape, &device),
        Path::Stock => on_cuda,
    };
    match ConvShape::new(x.dims(), weight.dims(), stride, padding).filter(served) {
        Some(shape) => {
            let y = Dispatch::conv3d_forward(x.into_dispatch(), weight.into_dispatch(), shape);
            Tensor::from_dispatch(y)
        }
        None => stock(x, weight, stride, padding),
    }
}

#[cfg(feature = "cuda")]
use cuda::serves as cuda_serves;

/// Without the feature no device is CUDA's.
#[cfg(not(feature = "cuda"))]
fn cuda_serves(_: &Device) -> bool {
    false
}

/// A strided 1×1×1 kernel only looks at every stride-th place, so those are picked first. It is the
/// same arithmetic, and Burn 0.22.1 on wgpu gives a wrong input gradient for the direct form
/// (relative error 1).
fn thinned(
    x: Tensor<5>,
    [_, _, kt, kh, kw]: [usize; 5],
    stride: [usize; 3],
    padding: [usize; 3],
) -> (Tensor<5>, [usize; 3]) {
    if [kt, kh, kw] == [1; 3] && stride != [1; 3] && padding == [0; 3] {
        let [t, h, w] = stride.map(|step| step as isize);
        (x.slice(s![.., .., ..;t, ..;h, ..;w]), [1; 3])
    } else {
        (x, stride)
    }
}

/// Burn's own convolution.
fn stock(x: Tensor<5>, weight: Tensor<5>, stride: [usize; 3], padding: [usize; 3]) -> Tensor<5> {
    let (x, stride) = thinned(x, weight.dims(), stride, padding);
    module::conv3d(x, weight, None, ConvOptions::new(stride, padding, [1, 1, 1], 1))
}
