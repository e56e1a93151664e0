//! Convolutions on matrix units, real and emulated by invocations, against f64.

use std::collections::BTreeSet;
use std::fs;

use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use polyview::conv::testing::{
    forward_with_moments_on, kernels, pass_as_on, tried_units, variants_by_units,
};
use polyview::conv::{ConvPass, ConvShape};
use polyview::half::{to_float, to_half};
use polyview::kernels::{ChangedLimits, DeviceLimits, MatrixUnits, limits, with_limits};
use polyview::model::{Backbone, BackboneKind, Init};
use polyview::tuning::tune;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::compare::relative_distance;
use crate::common::conv::{Case, check_statistics, random_shape, wide_shape};
use crate::common::network::gradients;
use crate::common::tensors::{tensor, uniform, values};
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

/// The limits with the device's matrix units. By default, polyview does not use those of a software
/// rasteriser, which are 8×8.
const WITH_UNITS: ChangedLimits = |limits| {
    let lanes = limits.subgroup[0];
    let software = MatrixUnits { size: 8, lanes, scalars: false, emulated: false };
    DeviceLimits { matrix_units: Some(limits.matrix_units.unwrap_or(software)), ..limits }
};

/// The limits with emulated matrix units of the same size.
const EMULATED: ChangedLimits = |limits| {
    let limits = WITH_UNITS(limits);
    let emulated = limits.matrix_units.map(|units| MatrixUnits { emulated: true, ..units });
    DeviceLimits { matrix_units: emulated, ..limits }
};

/// Returns the limits with matrices that are loaded from arrays of single values, or of vectors of
/// four.
fn loaded_from(limits: DeviceLimits, scalars: bool) -> DeviceLimits {
    let units = limits.matrix_units.map(|units| MatrixUnits { scalars, ..units });
    DeviceLimits { matrix_units: units, ..limits }
}

const SCALARS: ChangedLimits = |limits| loaded_from(WITH_UNITS(limits), true);

/// Checks whether the device has matrix units that our kernels could use.
fn has_units(device: &Device) -> bool {
    let limits = limits(device).unwrap();
    let listed = polyview::device::list();
    let mut software = listed.iter().filter(|listed| listed.kind == "software");
    let on_software = limits.software && software.any(|listed| listed.matrix_units().is_some());
    limits.matrix_units.is_some() || on_software
}

/// Returns limits with the matrix units as this device runs them; `None` after reporting a skip.
fn with_real(device: &Device) -> Option<impl Fn(DeviceLimits) -> DeviceLimits + Copy + use<>> {
    if !has_units(device) {
        skip::skip("no matrix units");
        return None;
    }
    let units = with_limits(WITH_UNITS, || tried_units(device)).unwrap().unwrap();
    Some(move |limits| DeviceLimits { matrix_units: Some(units), ..limits })
}

fn shape(rng: &mut ChaCha8Rng, round: usize) -> ConvShape {
    match round % 3 {
        0 => random_shape(rng, 1_000_000),
        // Planes of multiples of four, so that results are written four values at a time.
        1 => ConvShape { input: [4, 3, 8], ..wide_shape(rng) },
        _ => wide_shape(rng),
    }
}

/// Returns the largest difference, relative to the largest value.
fn worst(got: &[f32], want: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = want.clone().fold(1e-30f64, |most, value| most.max(value.abs()));
    let error = |(&got, want): (&f32, f64)| {
        let error = (f64::from(got) - want).abs() / largest;
        if error.is_nan() { f64::INFINITY } else { error }
    };
    got.iter().zip(want).map(error).fold(0.0, f64::max)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn matrix_units_agree_with_f64_and_with_invocations() {
    let Some(device) = device() else { return };
    let real = with_real(&device);
    let mut rng = ChaCha8Rng::seed_from_u64(61);
    let (mut from_exact, mut from_emulated, mut compared) = (0.0f64, 0.0f64, 0);
    let mut seen = BTreeSet::new();
    for round in 0..36 {
        let shape = shape(&mut rng, round);
        if !shape.is_sound() {
            continue;
        }
        let scalars = rng.random();
        let emulated = |limits| loaded_from(EMULATED(limits), scalars);
        let real = real.map(|real| move |limits| loaded_from(real(limits), scalars));
        let case = Case::in_half(shape, &mut rng);
        let x = to_half(tensor(&case.x, shape.x(), &device));
        let w = tensor(&case.w, shape.w(), &device);
        let dy = to_half(tensor(&case.dy, shape.y(), &device));
        for (pass, operands) in ConvPass::ALL.into_iter().zip([[&x, &w], [&dy, &w], [&x, &dy]]) {
            let known = emulated(limits(&device).unwrap());
            let variants = variants_by_units(pass, &shape, &known);
            assert!(!variants.is_empty(), "{pass:?} of {shape:?}");
            let usual = kernels(pass, &shape, DType::F16, &known, None).unwrap();
            assert!(usual.iter().any(|kernel| kernel.contains("emulated: true")), "{usual:?}");
            for variant in variants {
                let names = kernels(pass, &shape, DType::F16, &known, Some(variant)).unwrap();
                seen.extend(names.iter().filter_map(|name| {
                    let (_, loads) = name.split_once("load: ").or(name.split_once("loads: "))?;
                    let loads = loads.split_once(',')?.0.to_owned();
                    Some((pass == ConvPass::WeightGradient, loads, scalars))
                }));
                // The weight gradient's operands are stored as f16, so that nothing is rounded.
                let check_weights = |got: &[f32]| {
                    let error =
                        if pass == ConvPass::WeightGradient { case.worst(2, got) } else { 0.0 };
                    assert!(error <= 1.0, "{shape:?}, {variant:?}: {error}× the bound");
                };
                let by_invocations = {
                    let operands = operands.map(Tensor::clone);
                    let got = pass_as_on(emulated, Some(variant), pass, &shape, operands);
                    values(to_float(got.unwrap().unwrap()))
                };
                let exact = case.exact[pass as usize].iter().copied();
                let error = worst(&by_invocations, exact);
                assert!(error <= 2e-3, "{pass:?} of {shape:?}, {variant:?}: {error}");
                from_exact = from_exact.max(error);
                check_weights(&by_invocations);
                let Some(real) = real else { continue };
                let run = || {
                    let operands = operands.map(Tensor::clone);
                    let got = pass_as_on(real, Some(variant), pass, &shape, operands);
                    values(to_float(got.unwrap().unwrap()))
                };
                let by_units = run();
                assert_eq!(bits(&by_units), bits(&run()), "{pass:?} of {shape:?}");
                let error = worst(&by_units, by_invocations.iter().map(|&v| f64::from(v)));
                assert!(error <= 1e-3, "{pass:?} of {shape:?}, {variant:?}: {error}");
                from_emulated = from_emulated.max(error);
                check_weights(&by_units);
                compared += 1;
            }
        }
    }
    // Four ways to load for a forward pass or an input gradient, four for a weight gradient, each
    // with both kinds of arrays.
    assert_eq!(seen.len(), 16, "{seen:?}");
    println!("emulated matrix units differ from f64 by {from_exact:.1e}");
    println!("{compared} plans on matrix units differ from these by {from_emulated:.1e}");
}

/// The statistics that a convolution computes are those of the values that it stores.
#[test]
fn matrix_units_give_statistics() {
    let Some(device) = device() else { return };
    let real = with_real(&device);
    let mut rng = ChaCha8Rng::seed_from_u64(62);
    let mut given = [0, 0];
    for round in 0..24 {
        let shape = ConvShape { input: [4, 6, [8, 13][round % 2]], ..wide_shape(&mut rng) };
        if !shape.is_sound() {
            continue;
        }
        let case = Case::in_half(shape, &mut rng);
        let x = to_half(tensor(&case.x, shape.x(), &device));
        let w = tensor(&case.w, shape.w(), &device);
        let known = EMULATED(limits(&device).unwrap());
        for variant in variants_by_units(ConvPass::Forward, &shape, &known) {
            let mut check = |which: usize, on: &dyn Fn(DeviceLimits) -> DeviceLimits| {
                let run = || {
                    let operands = [x.clone(), w.clone()];
                    forward_with_moments_on(on, Some(variant), &shape, operands).unwrap().unwrap()
                };
                // Split sums and converted results have no statistics.
                let Some((y, moments, slice)) = run() else { return };
                let (y, moments) = (values(to_float(y)), values(moments));
                let error = worst(&y, case.exact[0].iter().copied());
                assert!(error <= 2e-3, "{shape:?}, {variant:?}: {error}");
                check_statistics(&shape, &y, &moments, slice);
                let (_, again, _) = run().unwrap();
                assert_eq!(bits(&values(again)), bits(&moments), "{shape:?}, {variant:?}");
                given[which] += 1;
            };
            check(0, &EMULATED);
            if let Some(real) = real {
                check(1, &real);
            }
        }
    }
    println!("{given:?} convolutions on emulated and on real matrix units gave statistics");
    assert!(given[0] >= 10 && (real.is_none() || given[1] >= 10), "{given:?}");
}

/// Gradients and features of a network are close to those in f32 when its normalisations use the
/// statistics from the convolutions.
#[test]
fn matrix_units_work_in_networks() {
    let Some(device) = device() else { return };
    let real = with_real(&device).is_some();
    let device = device.autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(63);
    // Planes that are multiples of four in every stage, and planes that are not.
    for shape in [[2, 3, 8, 64, 64], [2, 3, 4, 40, 52]] {
        let clips = uniform(&mut rng, shape.iter().product(), 1.0, 0.0);
        let run = |half: bool| {
            let net = Backbone::new(&mut Init::new(5, &device), BackboneKind::R3dTiny);
            let net = net.with_half(half);
            let features = net.forward(tensor(&clips, shape, &device));
            // A loss scale for the range of f16.
            let grads = features.clone().square().sum().mul_scalar(256.0).backward();
            let grads = gradients(&net, &GradientsParams::from_grads(grads, &net));
            (values(features.inner()), grads)
        };
        let (want, want_grads) = run(false);
        let usual = run(true);
        let ways: &[ChangedLimits] =
            if real { &[EMULATED, WITH_UNITS, SCALARS] } else { &[EMULATED] };
        for &way in ways {
            let (got, got_grads) = with_limits(way, || run(true));
            assert_ne!(usual.0, got, "did not use matrix units");
            let error = worst(&got, want.iter().map(|&v| f64::from(v)));
            println!("{shape:?}: features off by {error:.1e}");
            assert!(error <= 5e-3, "{shape:?}: features off by {error}");
            let error = relative_distance(&got_grads, &want_grads);
            println!("{shape:?}: gradients off by {error:.1e}");
            assert!(error <= 0.1, "{shape:?}: gradients off by {error:.2e}");
        }
    }
}

/// The limits with subgroups of half the device's smallest size. If there are matrix units, a
/// kernel for such subgroups would omit half of the product.
const SMALL_SUBGROUPS: ChangedLimits = |limits| {
    let limits = WITH_UNITS(limits);
    let lanes = limits.subgroup[0] / 2;
    let units = limits.matrix_units.map(|units| MatrixUnits { lanes, ..units });
    DeviceLimits { matrix_units: units, subgroup: [lanes; 2], ..limits }
};

#[test]
fn matrix_units_that_fail_are_not_used() {
    let Some(device) = device() else { return };
    let why = with_limits(SMALL_SUBGROUPS, || tried_units(&device)).unwrap().unwrap_err();
    println!("not used: {why}");
    match has_units(&device) {
        true => assert_eq!(why, "they compute wrong products"),
        false => assert_eq!(why, "a matrix-unit kernel failed"),
    }
    let mut rng = ChaCha8Rng::seed_from_u64(64);
    let case = Case::in_half(wide_shape(&mut rng), &mut rng);
    let got = with_limits(SMALL_SUBGROUPS, || case.ours_stored(&device.autodiff(), true));
    for (pass, got) in got.iter().enumerate() {
        let error = worst(got, case.exact[pass].iter().copied());
        assert!(error <= 2e-3, "{:?}: {error}", ConvPass::ALL[pass]);
    }
}

/// A device's subgroups may be larger than the smallest ones that it reports.
#[test]
fn matrix_units_are_found_for_larger_subgroups() {
    let Some(device) = device() else { return };
    let Some(real) = with_real(&device) else { return };
    let units = real(DeviceLimits::WEBGPU).matrix_units.unwrap();
    let found = with_limits(
        |limits| {
            let smaller = SMALL_SUBGROUPS(limits);
            DeviceLimits { subgroup: limits.subgroup, ..smaller }
        },
        || tried_units(&device),
    );
    assert_eq!(found, Some(Ok(units)));
}

/// `--tune` may choose matrix units, for activations in half precision on a device that has them.
#[test]
fn matrix_units_can_be_chosen_by_tuning() {
    let Some(compute) = adapter::own_device() else { return };
    if !limits(&compute.device).unwrap().shader_f16 {
        return skip::skip("the device's shaders have no f16");
    }
    let folder = TempDir::new().unwrap();
    let shape = ConvShape {
        batch: 1,
        in_channels: 23,
        out_channels: 37,
        input: [2, 8, 12],
        kernel: [1, 3, 3],
        stride: [1; 3],
        padding: [0, 1, 1],
    };
    let jobs = ConvPass::ALL.map(|pass| (pass, shape));
    let run = |on: ChangedLimits, half: bool| {
        let run = || tune(&compute, &jobs, half, Some(folder.path()), || true);
        with_limits(on, run).unwrap().unwrap()
    };
    let file = run(EMULATED, true).file.unwrap();
    run(EMULATED, false);
    let mut contents: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for entry in contents["entries"].as_array_mut().unwrap() {
        let tile = json!({ "tm": 4, "tn": 4, "tx": 16, "ty": 8 });
        entry["choice"] = json!({ "units": { "tile": tile, "workgroups": 512 } });
    }
    fs::write(&file, contents.to_string()).unwrap();
    assert_eq!(run(EMULATED, true).remembered, jobs.len());
    assert_eq!(run(EMULATED, false).tried, jobs.len());
    // Results found without matrix units do not replace those found with them.
    assert_eq!(run(|limits| limits, true).tried, jobs.len());
    assert_eq!(run(EMULATED, true).remembered, jobs.len());
}
