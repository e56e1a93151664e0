//! Convolutions by matrix units, and by invocations that multiply in their place, against f64.

use burn::tensor::{DType, Device, Tensor};
use polyview::conv::testing::{kernels, pass_as_on, variants_by_units};
use polyview::conv::{ConvPass, ConvShape};
use polyview::half::{to_float, to_half};
use polyview::kernels::{DeviceLimits, MatrixUnits, limits};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::conv::{Case, random_shape, wide_shape};
use crate::common::tensors::{tensor, values};
use crate::common::{adapter, skip};

/// A device whose shaders have f16.
fn device() -> Option<Device> {
    let device = adapter::device()?;
    if limits(&device).unwrap().shader_f16 {
        return Some(device);
    }
    skip::skip("the device's shaders have no f16");
    None
}

/// Whether the software rasteriser has matrix units of 8×8.
fn has_units() -> bool {
    let software = |device: &polyview::device::DeviceInfo| device.kind == "software";
    let devices = polyview::device::list();
    devices.iter().filter(|device| software(device)).any(|device| device.matrix_units().is_some())
}

/// Limits with units of 8×8 for the device's own subgroups.
fn with_units(emulated: bool) -> impl Fn(DeviceLimits) -> DeviceLimits + Copy {
    move |limits| {
        let units = MatrixUnits { size: 8, lanes: limits.subgroup[0], emulated };
        DeviceLimits { matrix_units: Some(units), ..limits }
    }
}

fn shape(rng: &mut ChaCha8Rng, round: usize) -> ConvShape {
    match round % 3 {
        0 => random_shape(rng, 1_000_000),
        // Planes of multiples of four, which the result is written to by fours.
        1 => ConvShape { input: [4, 3, 8], ..wide_shape(rng) },
        _ => wide_shape(rng),
    }
}

/// Largest difference, relative to the largest value.
fn worst(got: &[f32], want: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = want.clone().fold(1e-30f64, |most, value| most.max(value.abs()));
    let error = |(&got, want): (&f32, f64)| {
        let error = (f64::from(got) - want).abs() / largest;
        if error.is_nan() { f64::INFINITY } else { error }
    };
    got.iter().zip(want).map(error).fold(0.0, f64::max)
}

#[test]
fn matrix_units_agree_with_f64_and_with_invocations() {
    let Some(device) = device() else { return };
    let units = has_units();
    let mut rng = ChaCha8Rng::seed_from_u64(61);
    let (mut furthest, mut apart, mut compared) = (0.0f64, 0.0f64, 0);
    for round in 0..60 {
        let shape = shape(&mut rng, round);
        if !shape.is_sound() {
            continue;
        }
        let case = Case::in_half(shape, &mut rng);
        let x = to_half(tensor(&case.x, shape.x(), &device));
        let w = tensor(&case.w, shape.w(), &device);
        let dy = to_half(tensor(&case.dy, shape.y(), &device));
        let passes = [(ConvPass::Forward, [&x, &w]), (ConvPass::InputGradient, [&dy, &w])];
        for (pass, operands) in passes {
            let known = with_units(true)(limits(&device).unwrap());
            let variants = variants_by_units(pass, &shape, &known);
            assert!(!variants.is_empty(), "{pass:?} of {shape:?}");
            let usual = kernels(pass, &shape, DType::F16, &known, None).unwrap();
            assert!(usual.iter().any(|kernel| kernel.contains("emulated: true")), "{usual:?}");
            for variant in variants {
                let run = |emulated| {
                    let operands = operands.map(Tensor::clone);
                    let limits = with_units(emulated);
                    let got = pass_as_on(limits, Some(variant), pass, &shape, operands);
                    values(to_float(got.unwrap().unwrap()))
                };
                let by_invocations = run(true);
                let exact = case.exact[pass as usize].iter().copied();
                let error = worst(&by_invocations, exact);
                assert!(error <= 2e-3, "{pass:?} of {shape:?}, {variant:?}: {error}");
                furthest = furthest.max(error);
                if !units {
                    continue;
                }
                let by_units = run(false);
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&by_units), bits(&run(false)), "{pass:?} of {shape:?}");
                let error = worst(&by_units, by_invocations.iter().map(|&v| f64::from(v)));
                assert!(error <= 1e-3, "{pass:?} of {shape:?}, {variant:?}: {error}");
                apart = apart.max(error);
                compared += 1;
            }
        }
    }
    println!("invocations differ from f64 by {furthest:.1e}");
    match units {
        true => println!("{compared} plans by matrix units differ from them by {apart:.1e}"),
        false => skip::skip("no matrix units"),
    }
}
