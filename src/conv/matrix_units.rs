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

/// The limits with matrix units only where they gave the right product, for subgroups of the size that
/// the device runs. Tried once per device.
pub(super) fn checked(device: &CubeDevice, limits: DeviceLimits) -> DeviceLimits {
    static CHECKED: PerDevice<Mutex<HashMap<MatrixUnits, Option<MatrixUnits>>>> = PerDevice::new();
    let Some(units) = limits.matrix_units.filter(|units| !units.emulated) else { return limits };
    let known = CHECKED.get_or_insert(device, Mutex::default);
    let mut known = known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let found = *known.entry(units).or_insert_with(|| {
        let found = working(device, &limits, units);
        if found.is_none() {
            log::warn!("the matrix units give wrong products and are not used");
        }
        found
    });
    DeviceLimits { matrix_units: found, ..limits }
}

/// [`kernels::limits`](crate::kernels::limits), of the matrix units those that work.
pub(crate) fn checked_limits(device: &Device) -> Option<DeviceLimits> {
    let device = cube_device(device)?;
    Some(checked(&device, launch::limits(&device)?))
}

/// What multiplies activations in half precision, as text.
pub(crate) fn describe_units(device: &Device) -> String {
    match checked_limits(device).and_then(|limits| limits.matrix_units) {
        Some(MatrixUnits { size, .. }) => format!("matrix units: {size}×{size} f16"),
        None => "no matrix units".to_owned(),
    }
}

/// The units for subgroups of the smallest size that gives the right product. With larger ones than
/// planned for, part of the product is missing.
fn working(device: &CubeDevice, limits: &DeviceLimits, units: MatrixUnits) -> Option<MatrixUnits> {
    let sizes = std::iter::successors(Some(units.lanes), |lanes| Some(lanes * 2));
    let sizes = sizes.take_while(|&lanes| lanes <= limits.subgroup[1].max(units.lanes));
    sizes.map(|lanes| MatrixUnits { lanes, ..units }).find(|&units| {
        let limits = DeviceLimits { matrix_units: Some(units), ..*limits };
        is_right(device, &limits).unwrap_or(false)
    })
}

/// Whether a product of integers is exact; `None` where the device has no kernel for it, or fails.
fn is_right(device: &CubeDevice, limits: &DeviceLimits) -> Option<bool> {
    let variants = wgsl::variants(ConvPass::Forward, Storage::F16, limits);
    let by_units = |variant: &ConvVariant| matches!(variant, ConvVariant::Units { .. });
    let variant = variants.into_iter().find(by_units)?;
    let plan =
        wgsl::plan_as(ConvPass::Forward, &SHAPE, Storage::F16, limits, Some(variant)).ok()?;
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
    let y = y.try_into_vec_as::<f32>();
    Some(y.inspect_err(|error| log::warn!("matrix units: {error}")).ok()? == want)
}
