//! Whether a device's matrix units compute what they should: a small product is tried before they are
//! taken.

use std::collections::HashMap;
use std::sync::Mutex;

use burn::backend::CubeDevice;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, Device, Shape, Tensor, f16};
use polyview_cpu::conv as cpu;

use super::wgsl::{self, ConvPass, ConvVariant};
use super::{ConvShape, op};
use crate::kernels::registry::PerDevice;
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, MatrixUnits, cube_device, launch};

/// Sizes that no matrix divides.
const SHAPE: ConvShape = ConvShape {
    batch: 2,
    in_channels: 21,
    out_channels: 70,
    input: [2, 6, 10],
    kernel: [1, 3, 3],
    stride: [1; 3],
    padding: [0, 1, 1],
};

/// The matrix units of a device, or why it does without them.
pub(super) type Outcome = Result<MatrixUnits, &'static str>;

/// The limits for convolutions of activations of this type: of the matrix units those that gave the
/// right product, and none for f32, which does not use them. Tried once per device.
pub(super) fn checked(device: &CubeDevice, limits: DeviceLimits, dtype: DType) -> DeviceLimits {
    let found = match limits.matrix_units {
        Some(units) if dtype == DType::F16 && units.emulated => Some(units),
        Some(units) if dtype == DType::F16 => tried(device, &limits, units).ok(),
        _ => None,
    };
    DeviceLimits { matrix_units: found, ..limits }
}

/// The units for subgroups of the size that the device runs. The first call tries them, and says so
/// where they fail.
pub(super) fn tried(device: &CubeDevice, limits: &DeviceLimits, units: MatrixUnits) -> Outcome {
    // A device has one set of limits, except where tests change them.
    static TRIED: PerDevice<Mutex<HashMap<DeviceLimits, Outcome>>> = PerDevice::new();
    let known = TRIED.get_or_insert(device, Mutex::default);
    let mut known = known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *known.entry(*limits).or_insert_with(|| {
        let found = working(device, limits, units);
        if let Err(why) = found {
            let client = device.client();
            let name = &client.properties().identity.name;
            log::warn!("{name}: convolutions do without its matrix units: {why}");
        }
        found
    })
}

/// The limits of a device for convolutions of activations of this type.
pub(crate) fn checked_limits(device: &Device, dtype: DType) -> Option<DeviceLimits> {
    let device = cube_device(device)?;
    Some(checked(&device, launch::limits(&device)?, dtype))
}

/// What multiplies activations in half precision, as text.
pub(crate) fn describe_units(device: &Device) -> String {
    match checked_limits(device, DType::F16).and_then(|limits| limits.matrix_units) {
        Some(MatrixUnits { size, .. }) => format!("{size}×{size} matrix units"),
        None => "no matrix units".to_owned(),
    }
}

/// The units for subgroups of the smallest size that gives the right product: a kernel whose subgroups
/// are larger than planned for leaves NaN.
fn working(device: &CubeDevice, limits: &DeviceLimits, units: MatrixUnits) -> Outcome {
    let sizes = std::iter::successors(Some(units.lanes), |lanes| Some(lanes * 2));
    let sizes = sizes.take_while(|&lanes| lanes <= limits.subgroup[1].max(units.lanes));
    let mut outcome = Err("there are none");
    for lanes in sizes {
        let units = MatrixUnits { lanes, ..units };
        let limits = DeviceLimits { matrix_units: Some(units), ..*limits };
        outcome = is_right(device, &limits).and(Ok(units));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Computes a product of integers, which must be exact.
fn is_right(device: &CubeDevice, limits: &DeviceLimits) -> Result<(), &'static str> {
    let unfit = "no kernel for them fits the device";
    let variants = wgsl::variants(ConvPass::Forward, Storage::F16, limits);
    let by_units = |variant: &ConvVariant| matches!(variant, ConvVariant::Units { .. });
    let variant = variants.into_iter().find(by_units).ok_or(unfit)?;
    let plan = wgsl::plan_as(ConvPass::Forward, &SHAPE, Storage::F16, limits, Some(variant));
    let plan = plan.map_err(|_| unfit)?;
    // Sums stay far below 2048, up to which f16 has all integers.
    let small = |seed: usize| move |n: usize| ((n * seed + n / 7) % 5) as f32 - 2.0;
    let x: Vec<f32> = (0..SHAPE.input_len()).map(small(3)).collect();
    let w: Vec<f32> = (0..SHAPE.weight_len()).map(small(11)).collect();
    let mut want = vec![0.0; SHAPE.output_len()];
    cpu::forward(&SHAPE, &x, &w, &mut want);

    let client = device.client();
    let upload = |bytes: &[u8], shape: [usize; 5], dtype| {
        let handle = client.create_from_slice(bytes);
        CubeTensor::new_contiguous(
            client.clone(),
            device.clone(),
            Shape::from(shape),
            handle,
            dtype,
        )
    };
    let halves: Vec<f16> = x.iter().map(|&value| f16::from_f32(value)).collect();
    let x = upload(bytemuck::cast_slice(&halves), SHAPE.x(), DType::F16);
    let w = upload(bytemuck::cast_slice(&w), SHAPE.w(), DType::F32);
    let y = op::run(ConvPass::Forward, &SHAPE, Storage::F16, &plan, [x, w]);
    let y = Tensor::<5>::from_primitive::<CubeBackend>(y);
    let y = y.try_into_vec_as::<f32>().map_err(|error| {
        log::debug!("matrix units: {error}");
        "the kernel for them failed"
    })?;
    if y == want { Ok(()) } else { Err("they give a wrong product") }
}
