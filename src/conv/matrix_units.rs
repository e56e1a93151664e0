//! Checks that a device's matrix units compute correct results: small products are tested before
//! the units are used.

use std::collections::HashMap;
use std::sync::Mutex;

use burn::backend::CubeDevice;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, Device, Shape, Tensor, f16};
use polyview_cpu::conv as cpu;

use super::wgsl::{self, ConvPass};
use super::{ConvShape, op};
use crate::device::cube_device;
use crate::kernels::registry::PerDevice;
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, MatrixUnits, launch};

/// Channel counts that are not multiples of the matrix size, and values that are loaded one at a
/// time.
const ONE_BY_ONE: ConvShape = ConvShape {
    batch: 2,
    in_channels: 21,
    out_channels: 70,
    input: [2, 6, 10],
    kernel: [1, 3, 3],
    stride: [1; 3],
    padding: [0, 1, 1],
};
/// The tested shapes. They also cover values loaded four at a time from a row, four at a time from
/// a plane, through a table of channels and taps, with strides, and, for the weight gradient, in
/// any mix of channels and taps.
const SHAPES: [ConvShape; 6] = [
    ONE_BY_ONE,
    ConvShape { input: [2, 5, 16], ..ONE_BY_ONE },
    ConvShape { input: [4, 2, 6], kernel: [3, 1, 1], padding: [1, 0, 0], ..ONE_BY_ONE },
    // A stem, and the shortcut of a block that halves the resolution.
    ConvShape {
        in_channels: 3,
        input: [2, 9, 12],
        kernel: [1, 7, 7],
        stride: [1, 2, 2],
        padding: [0, 3, 3],
        ..ONE_BY_ONE
    },
    ConvShape { input: [3, 6, 10], kernel: [1; 3], stride: [2; 3], padding: [0; 3], ..ONE_BY_ONE },
    ConvShape { in_channels: 13, input: [3, 4, 6], kernel: [3; 3], padding: [1; 3], ..ONE_BY_ONE },
];

/// The matrix units of a device, or why they are not used.
pub(super) type Outcome = Result<MatrixUnits, &'static str>;

/// Returns the limits for convolutions with activations of type `dtype`: with matrix units for f16
/// if they passed the test, which runs once per device, and without them for other types. Emulated
/// units are not tested.
pub(super) fn checked(device: &CubeDevice, limits: DeviceLimits, dtype: DType) -> DeviceLimits {
    let matrix_units = match limits.matrix_units {
        Some(units) if dtype == DType::F16 && units.emulated => Some(units),
        Some(units) if dtype == DType::F16 => tested(device, &limits, units).ok(),
        _ => None,
    };
    DeviceLimits { matrix_units, ..limits }
}

/// Returns the matrix units with the subgroup size that the device actually uses. The first call
/// tests them and logs a warning if they fail.
pub(super) fn tested(device: &CubeDevice, limits: &DeviceLimits, units: MatrixUnits) -> Outcome {
    // A device has one set of limits, unless tests change them.
    static TESTED: PerDevice<Mutex<HashMap<DeviceLimits, Outcome>>> = PerDevice::new();
    let known = TESTED.get_or_insert(device, Mutex::default);
    let mut known = known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *known.entry(*limits).or_insert_with(|| {
        let outcome = test(device, limits, units);
        if let Err(why) = outcome {
            let client = device.client();
            let name = &client.properties().identity.name;
            log::warn!("{name}: convolutions do not use its matrix units: {why}");
        }
        outcome
    })
}

/// Returns the limits of a device for convolutions with activations of type `dtype`.
pub(crate) fn checked_limits(device: &Device, dtype: DType) -> Option<DeviceLimits> {
    let device = cube_device(device)?;
    Some(checked(&device, launch::limits(&device)?, dtype))
}

/// Describes the matrix units that convolutions in half precision use.
pub(crate) fn describe_units(device: &Device) -> String {
    match checked_limits(device, DType::F16).and_then(|limits| limits.matrix_units) {
        Some(MatrixUnits { size, .. }) => format!("{size}×{size} matrix units"),
        None => "no matrix units".to_owned(),
    }
}

/// Returns the units with the smallest subgroup size that gives the right products: a kernel whose
/// actual subgroups are larger than planned writes NaN.
fn test(device: &CubeDevice, limits: &DeviceLimits, units: MatrixUnits) -> Outcome {
    let sizes = std::iter::successors(Some(units.lanes), |lanes| Some(lanes * 2));
    let sizes = sizes.take_while(|&lanes| lanes <= limits.subgroup[1].max(units.lanes));
    let mut outcome = Err("the device has none");
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

/// Checks products of integers, which must be exact.
fn is_right(device: &CubeDevice, limits: &DeviceLimits) -> Result<(), &'static str> {
    SHAPES.iter().try_for_each(|shape| gives_exact_products(device, limits, shape))
}

fn gives_exact_products(
    device: &CubeDevice,
    limits: &DeviceLimits,
    shape: &ConvShape,
) -> Result<(), &'static str> {
    // Sums stay below 2048, up to which f16 represents every integer.
    let small = |count: usize, seed: usize| -> Vec<f32> {
        (0..count).map(|n| ((n * seed + n / 7) % 5) as f32 - 2.0).collect()
    };
    let x = small(shape.input_len(), 3);
    let w = small(shape.weight_len(), 11);
    let dy = small(shape.output_len(), 13);
    let [mut y, mut dx, mut dw] = [&dy, &x, &w].map(|like| vec![0.0; like.len()]);
    cpu::forward(shape, &x, &w, &mut y);
    cpu::input_gradient(shape, &dy, &w, &mut dx);
    cpu::weight_gradient(shape, &x, &dy, &mut dw);

    let tensor = |values: &[f32], shape: [usize; 5], dtype: DType| {
        let halves = || values.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>();
        let client = device.client();
        let handle = match dtype {
            DType::F16 => client.create_from_slice(bytemuck::cast_slice(&halves())),
            _ => client.create_from_slice(bytemuck::cast_slice(values)),
        };
        CubeTensor::new_contiguous(client, device.clone(), Shape::from(shape), handle, dtype)
    };
    let x = tensor(&x, shape.x(), DType::F16);
    let w = tensor(&w, shape.w(), DType::F32);
    let dy = tensor(&dy, shape.y(), DType::F16);
    let products = [
        (ConvPass::Forward, [x.clone(), w.clone()], y),
        (ConvPass::InputGradient, [dy.clone(), w], dx),
        (ConvPass::WeightGradient, [x, dy], dw),
    ];
    for (pass, operands, want) in products {
        let plan = wgsl::plan(pass, shape, Storage::F16, limits).ok();
        let plan = plan.filter(|plan| plan.launches.iter().any(|launch| launch.kernel.has_units()));
        let plan = plan.ok_or("no matrix-unit kernel fits the device")?;
        let got = op::run(pass, shape, Storage::F16, &plan, operands);
        let got = Tensor::<5>::from_primitive::<CubeBackend>(got);
        let got = got.try_into_vec_as::<f32>().map_err(|error| {
            log::debug!("matrix units: {error}");
            "a matrix-unit kernel failed"
        })?;
        if got != want {
            return Err("they compute wrong products");
        }
    }
    Ok(())
}
