//! 3D convolution with kernels of its own: WGSL compute shaders on wgpu, vector code on the CPU,
//! matrix units through Burn on CUDA, Burn's operation elsewhere.

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

use crate::half;
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, Implementation, cube_device, launch};
use crate::norm::{Moments, Producer};
use op::ConvOps;

pub(crate) use matrix_units::{checked_limits, describe_units};
pub(crate) use plans::choose;
pub use polyview_cpu::conv::ConvShape;
pub(crate) use trial::{Trial, fastest};
pub use wgsl::ConvPass;

/// Whether kernels of ours (on CUDA: of our choice) compute a convolution, else Burn's own operation
/// does. This is where the implementation is chosen, for the forward and both backward passes of
/// activations of type `dtype`.
fn has_kernels(
    implementation: Implementation,
    device: &Device,
    shape: &ConvShape,
    dtype: DType,
) -> bool {
    match implementation {
        Implementation::Cpu => true,
        Implementation::Wgsl(_) => has_plans(shape, device, dtype),
        Implementation::Burn => takes_matrix_units(device),
    }
}

/// Whether the device has a plan for all three passes.
fn has_plans(shape: &ConvShape, device: &Device, dtype: DType) -> bool {
    let device = cube_device(device).expect("a device that takes WGSL is one of CubeCL's");
    let refused =
        ConvPass::ALL.into_iter().find_map(|pass| plans::plan(&device, pass, shape, dtype).err());
    let Some(reason) = refused else { return true };
    // Asked at every pass, and said once. On a CPU the difference is small.
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("{shape:?} takes Burn's convolution, which is slower: {reason}");
    let software = launch::limits(&device).is_none_or(|limits| limits.software);
    let mut told = TOLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if software || told.contains(&line) {
        log::debug!("{line}");
    } else {
        log::warn!("{line}");
        told.insert(line);
    }
    false
}

/// Whether Burn's matrix-unit kernels serve this device.
fn takes_matrix_units(device: &Device) -> bool {
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
/// `[N, K, T', H', W']`, stored as x is. Differentiable; a gradient that nothing asks for is not
/// computed.
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

/// [`conv3d`] between two normalisations: with the statistics of its result, where the device's kernel
/// gives them as well, and with the `producer` of `x`, if that is a normalisation with ReLU, whose
/// backward pass then needs less.
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
    // Burn's kernels, the matrix units' included, need the strided 1×1×1 form rewritten.
    let (x, stride) = match implementation {
        Implementation::Burn => thinned(half::to_float(x), weight.dims(), stride, padding),
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
            // Without a producer x and the weights are passed in its place and not read.
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

/// Values of a part of the statistics that the forward pass gives on a device that takes WGSL; `None`
/// where it does not.
fn moments_on(device: &Device, shape: &ConvShape, dtype: DType) -> Option<usize> {
    let device = cube_device(device)?;
    plans::with_parts(&device, ConvPass::Forward, shape, dtype).map(|plan| plan.slice)
}

/// Values of a part of what a pass gives a normalisation besides its result, on a device with these limits
/// and activations stored this way; `None` where it gives nothing.
pub(crate) fn slice_of_parts(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Option<usize> {
    let plan = wgsl::plan(pass, shape, stored, limits).ok()?;
    wgsl::with_parts(pass, &plan, shape, stored, limits).map(|plan| plan.slice)
}

/// A strided 1×1×1 kernel only reads every stride-th position, so those are picked first. It is the
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
fn by_burn(x: Tensor<5>, weight: Tensor<5>, stride: [usize; 3], padding: [usize; 3]) -> Tensor<5> {
    let (x, stride) = thinned(x, weight.dims(), stride, padding);
    module::conv3d(x, weight, None, ConvOptions::new(stride, padding, [1, 1, 1], 1))
}
