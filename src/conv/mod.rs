//! 3D convolution: custom WGSL compute shaders on wgpu, custom SIMD code on the CPU, matrix units
//! through Burn on CUDA, and Burn's default operation elsewhere.

#[cfg(feature = "cuda")]
mod cuda;
mod matrix_units;
mod op;
mod plans;
#[doc(hidden)]
pub mod testing;
mod trial;
pub(crate) mod wgsl;

use std::collections::BTreeSet;
use std::sync::Mutex;

use burn::backend::Dispatch;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor, module, s};

use crate::device::cube_device;
use crate::half;
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, Implementation, launch};
use crate::norm::{Moments, Producer};
use op::ConvOps;

pub(crate) use matrix_units::{checked_limits, describe_units};
#[cfg(test)]
pub(crate) use plans::has_choices;
pub(crate) use plans::{choose, forget_choices};
pub use polyview_cpu::conv::ConvShape;
pub(crate) use trial::{Trial, fastest};
pub use wgsl::ConvPass;

/// Checks whether our kernels (on CUDA: the Burn kernels that we select) compute a convolution; if
/// not, Burn's default operation does. This is where the implementation is chosen, for the forward
/// and both backward passes, with activations of type `dtype`.
fn has_kernels(
    implementation: Implementation,
    device: &Device,
    shape: &ConvShape,
    dtype: DType,
) -> bool {
    match implementation {
        Implementation::Cpu => true,
        Implementation::Wgsl(_) => has_plans(shape, device, dtype),
        Implementation::Burn => uses_matrix_units(device),
    }
}

/// Checks whether the device has a plan for all three passes.
fn has_plans(shape: &ConvShape, device: &Device, dtype: DType) -> bool {
    let device = cube_device(device).expect("a device that runs WGSL is a CubeCL device");
    let refused =
        ConvPass::ALL.into_iter().find_map(|pass| plans::plan(&device, pass, shape, dtype).err());
    let Some(reason) = refused else { return true };
    // This runs for every convolution but warns only once per shape. On a CPU the difference is
    // small.
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("{shape:?} falls back to Burn's slower convolution: {reason}");
    let software = launch::limits(&device).is_none_or(|limits| limits.software);
    let mut warned = WARNED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if software || warned.contains(&line) {
        log::debug!("{line}");
    } else {
        log::warn!("{line}");
        warned.insert(line);
    }
    false
}

/// Checks whether Burn's matrix-unit kernels are used on this device.
fn uses_matrix_units(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    return !crate::kernels::stock_wanted()
        && cube_device(device).is_some_and(|device| cuda::serves(&device));
    #[cfg(not(feature = "cuda"))]
    {
        _ = device;
        false
    }
}

/// Convolves `x [N, C, T, H, W]` with `weight [K, C, kt, kh, kw]`, without bias, to
/// `[N, K, T', H', W']` with the dtype of `x`. Differentiable; gradients that are not needed are
/// not computed.
///
/// # Panics
/// If the sizes do not fit together.
pub fn conv3d(
    x: Tensor<5>,
    weight: Tensor<5>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Tensor<5> {
    convolve(x, weight, [stride, padding], None, false).0
}

/// Like [`conv3d`], for a convolution between two normalisations. Also returns the statistics of
/// its result if the device's kernel can compute them. If a normalisation with ReLU made `x`,
/// `producer` lets the backward pass also compute the gradient sums for that normalisation, which
/// makes its backward pass cheaper.
///
/// # Panics
/// If the sizes do not fit together.
pub fn conv3d_between_norms(
    x: Tensor<5>,
    weight: Tensor<5>,
    stride: [usize; 3],
    padding: [usize; 3],
    producer: Option<Producer>,
) -> (Tensor<5>, Option<Moments>) {
    convolve(x, weight, [stride, padding], producer, true)
}

fn convolve(
    x: Tensor<5>,
    weight: Tensor<5>,
    [stride, padding]: [[usize; 3]; 2],
    producer: Option<Producer>,
    moments: bool,
) -> (Tensor<5>, Option<Moments>) {
    let device = x.device();
    let implementation = Implementation::of_tensor(&x);
    let is_half = half::is_half(&x);
    // Burn's kernels, including those for matrix units, need strided 1×1×1 convolutions rewritten.
    let (x, stride) = match implementation {
        Implementation::Burn => subsampled(half::to_float(x), weight.dims(), stride, padding),
        _ => (x, stride),
    };
    let dtype = x.dtype();
    let shape = ConvShape::new(x.dims(), weight.dims(), stride, padding)
        .filter(|shape| has_kernels(implementation, &device, shape, dtype));
    match shape {
        Some(shape) => {
            let slice = match implementation {
                Implementation::Wgsl(_) if moments => moments_on(&device, &shape, dtype),
                _ => None,
            };
            // Without a producer, x and the weights serve as placeholders that are not read.
            let (norm_x, kept, sums) = match producer {
                Some(Producer { x, kept, sums }) => {
                    (x.into_dispatch(), kept.into_dispatch(), Some(sums))
                }
                None => (x.clone().into_dispatch(), weight.clone().into_dispatch(), None),
            };
            let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
            let (y, parts) =
                Dispatch::conv3d_forward(x, weight, norm_x, kept, shape, slice.is_some(), sums);
            let moments = slice.map(|slice| Moments { parts: Tensor::from_dispatch(parts), slice });
            (half::stored(Tensor::from_dispatch(y), is_half), moments)
        }
        None => {
            let y = by_burn(half::to_float(x), weight, stride, padding);
            (half::stored(y, is_half), None)
        }
    }
}

/// Returns how many values each part of the forward pass's statistics covers on a device that runs
/// WGSL, or `None` if the pass does not compute statistics.
fn moments_on(device: &Device, shape: &ConvShape, dtype: DType) -> Option<usize> {
    let device = cube_device(device)?;
    plans::with_parts(&device, ConvPass::Forward, shape, dtype).map(|plan| plan.slice)
}

/// Returns how many values each part of a pass's additional output for a normalisation covers, on a
/// device with these limits and with activations stored as `stored`, or `None` if the pass has no
/// such output.
pub(crate) fn slice_of_parts(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Option<usize> {
    let plan = wgsl::plan(pass, shape, stored, limits).ok()?;
    wgsl::with_parts(pass, &plan, shape, stored, limits).map(|plan| plan.slice)
}

/// Rewrites a strided 1×1×1 convolution as one with stride 1 on a subsampled input. The kernel
/// reads only every stride-th position, so the arithmetic is the same, while Burn 0.22.1 on wgpu
/// computes a wrong input gradient for the direct form (relative error 1).
fn subsampled(
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

/// Computes the convolution with Burn's default operation.
fn by_burn(x: Tensor<5>, weight: Tensor<5>, stride: [usize; 3], padding: [usize; 3]) -> Tensor<5> {
    let (x, stride) = subsampled(x, weight.dims(), stride, padding);
    module::conv3d(x, weight, None, ConvOptions::new(stride, padding, [1, 1, 1], 1))
}
