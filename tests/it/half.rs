//! Activations in half precision: conversions, convolutions against f64, and training.

use std::collections::BTreeSet;

use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, f16};
use polyview::conv::testing::{forward_with_moments_on, kernels, pass_as_on};
use polyview::conv::{ConvPass, ConvShape};
use polyview::half::{fork, to_float, to_half};
use polyview::kernels::{ChangedLimits, DeviceLimits, Vendor, limits, with_limits};
use polyview::model::{Backbone, BackboneKind, Init};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::compare::relative_distance;
use crate::common::conv::{
    Case, UNSERVED, assert_unserved, check_statistics, random_shape, wide_shape,
};
use crate::common::network::gradients;
use crate::common::tensors::{tensor, uniform, values};

const PACKED: ChangedLimits = |limits| DeviceLimits { shader_f16: false, ..limits };
const NATIVE: ChangedLimits = |limits| limits;

/// Returns the ways in which the device's shaders can access f16.
fn ways(device: &Device) -> Vec<ChangedLimits> {
    match limits(device).unwrap().shader_f16 {
        true => vec![PACKED, NATIVE],
        false => vec![PACKED],
    }
}

#[test]
fn half_is_rounded_and_read_the_same_in_every_way() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(41);
    let special = [
        0.0,
        -0.0,
        1.0,
        65504.0,
        65519.0,
        65520.0,
        -1e6,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        6.2e-5,
    ];
    for count in [1, 2, 3, 4, 5, 63, 257, 1000, 4099] {
        let mut given: Vec<f32> = (0..count)
            .map(|_| (rng.random::<f32>() - 0.5) * 10f32.powi(rng.random_range(-3..5)))
            .collect();
        for (value, special) in given.iter_mut().zip(special) {
            *value = special;
        }
        let [first, ..] = ways(&device)[..] else { panic!("there is always one way") };
        let stored = with_limits(first, || to_half(tensor::<1>(&given, [count], &device)));
        assert_eq!(stored.dtype(), DType::F16);
        for way in ways(&device) {
            let again = with_limits(way, || to_half(tensor::<1>(&given, [count], &device)));
            for stored in [&stored, &again] {
                let got = with_limits(way, || values(to_float(stored.clone())));
                assert_eq!(got.len(), count);
                for (&got, &given) in got.iter().zip(&given) {
                    if given.is_nan() {
                        assert!(got.is_nan(), "{got} for NaN");
                        continue;
                    }
                    let given = given.clamp(-65504.0, 65504.0);
                    // Rounding to either neighbour is allowed.
                    let room = given.abs() / 1024.0 + f16::MIN_POSITIVE_SUBNORMAL.to_f32();
                    assert!((got - given).abs() <= room, "{got} for {given}");
                    assert_eq!(f16::from_f32(got).to_f32(), got);
                }
            }
        }
    }
}

/// A gradient has the precision of its tensor; beyond the range of f16 it is not finite afterwards.
#[test]
fn half_gradients_pass_and_overflow_shows() {
    for device in adapter::differentiable() {
        let x = tensor::<1>(&[1.0, 1e-3, 3.0, -7.0, 0.1, 0.2, 0.3], [7], &device).require_grad();
        let slope = [1.0, 0.25, 65504.0, -1e9, 0.5, 65600.0, -2.0];
        let y = to_float(to_half(x.clone())).mul(tensor(&slope, [7], &device));
        let got = values(x.grad(&y.sum().backward()).unwrap());
        for (got, slope) in got.into_iter().zip(slope) {
            match slope.abs() <= 65504.0 {
                true => assert_eq!(got, slope),
                false => assert!(!got.is_finite(), "{got} for {slope}"),
            }
        }
    }
}

/// Both users of a tensor contribute to its gradient.
#[test]
fn half_gradients_of_two_users_are_added() {
    let Some(device) = adapter::device() else { return };
    let device = device.autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(47);
    for count in [1, 3, 4, 7, 1000] {
        let mut draw = || -> Vec<f32> {
            uniform(&mut rng, count, 1.0, 0.0).into_iter().map(|v| (v * 256.0).round()).collect()
        };
        let (x, a, b) = (draw(), draw(), draw());
        let x = tensor(&x, [count], &device).require_grad();
        let [first, second] = with_limits(PACKED, || fork(to_half(x.clone())));
        let sum = to_float(first).mul(tensor(&a, [count], &device));
        let sum = sum.add(to_float(second).mul(tensor(&b, [count], &device))).sum();
        let got = values(x.grad(&with_limits(PACKED, || sum.backward())).unwrap());
        let want: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(got, want);
    }
}

/// Checks y, dx and dw: y and dx are rounded once, nothing else is.
#[track_caller]
fn check(case: &Case, pass: usize, got: &[f32]) {
    if pass == 2 {
        let error = case.worst(pass, got);
        assert!(error <= 1.0, "{:?} of {:?}: {error}× the bound", ConvPass::ALL[pass], case.shape);
        return;
    }
    let exact = &case.exact[pass];
    assert_eq!(got.len(), exact.len());
    let largest = exact.iter().fold(1e-30f64, |max, v| max.max(v.abs()));
    for (&got, want) in got.iter().zip(exact) {
        let error = (f64::from(got) - want).abs() / largest;
        assert!(error <= 1.1e-3, "{pass} of {:?}: {got} for {want}", case.shape);
    }
}

/// With the kernels that the device uses.
#[test]
fn half_convolutions_agree_with_f64() {
    let Some(device) = adapter::device() else { return };
    for way in ways(&device) {
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        for round in 0..60 {
            let case = Case::in_half(random_shape(&mut rng, 1_000_000), &mut rng);
            let device = device.clone().autodiff();
            let run = || with_limits(way, || case.ours_stored(&device, true));
            let got = run();
            got.iter().enumerate().for_each(|(pass, got)| check(&case, pass, got));
            if round % 10 == 0 {
                let bits =
                    |values: &Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(
                    got.each_ref().map(bits),
                    run().each_ref().map(bits),
                    "{:?}",
                    case.shape
                );
            }
        }
    }
}

/// With the tiled kernels of GPUs.
#[test]
fn half_convolutions_in_tiles_agree_with_f64() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(43);
    let mut seen = BTreeSet::new();
    for round in 0..220 {
        let shape = match round % 4 {
            0 => random_shape(&mut rng, 1_000_000),
            // Planes are multiples of four, so the result is written four values at a time.
            1 => ConvShape { input: [4, 3, 6], ..wide_shape(&mut rng) },
            _ => wide_shape(&mut rng),
        };
        if !shape.is_sound() {
            continue;
        }
        let case = Case::in_half(shape, &mut rng);
        let x = to_half(tensor(&case.x, shape.x(), &device));
        let w = tensor(&case.w, shape.w(), &device);
        let dy = to_half(tensor(&case.dy, shape.y(), &device));
        let ways = ways(&device);
        let way = ways[round / 4 % ways.len()];
        let vendor = [Vendor::Amd, Vendor::Unknown, Vendor::Apple][round % 3];
        let on = |limits| DeviceLimits { software: false, vendor, ..way(limits) };
        let known = on(limits(&device).unwrap());
        for (pass, operands) in [[&x, &w], [&dy, &w], [&x, &dy]].into_iter().enumerate() {
            let kind = ConvPass::ALL[pass];
            let operands = operands.map(Tensor::clone);
            let got = pass_as_on(on, None, kind, &shape, operands).unwrap().unwrap();
            assert_eq!(got.dtype() == DType::F16, pass < 2);
            check(&case, pass, &values(to_float(got)));
            let names = kernels(kind, &shape, DType::F16, &known, None).unwrap();
            let form = |name: &String| name.split_once("form: ").map(|(_, form)| form.to_owned());
            seen.extend(names.iter().filter_map(form));
        }
    }
    // Six ways to read the source, and results that are written in fours or converted, in shaders with
    // and without f16; for gradients, which use no table, one form writes in fours, and three more forms
    // are for strided windows. Sums are rarely split.
    let most = 6 * 2 * ways(&device).len() + 5 + 3;
    assert!(seen.len() + 6 >= most, "{} of {most}: {seen:#?}", seen.len());
}

/// The statistics that a convolution returns are those of the values that it stores.
#[test]
fn half_convolutions_give_statistics() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(44);
    let mut given = 0;
    for way in ways(&device) {
        for _ in 0..20 {
            let shape = wide_shape(&mut rng);
            let case = Case::in_half(shape, &mut rng);
            let operands =
                [to_half(tensor(&case.x, shape.x(), &device)), tensor(&case.w, shape.w(), &device)];
            let on = |limits| DeviceLimits { software: false, ..way(limits) };
            let found = forward_with_moments_on(on, None, &shape, operands).unwrap().unwrap();
            let Some((y, moments, slice)) = found else { continue };
            let (y, moments) = (values(to_float(y)), values(moments));
            check(&case, 0, &y);
            check_statistics(&shape, &y, &moments, slice);
            given += 1;
        }
    }
    assert!(given >= 10, "{given} convolutions with statistics");
}

/// A convolution that none of our kernels supports is computed in f32.
#[test]
fn half_falls_back_on_f32() {
    let Some(device) = adapter::device() else { return };
    assert_unserved(&device);
    let mut rng = ChaCha8Rng::seed_from_u64(45);
    let case = Case::in_half(UNSERVED, &mut rng);
    let got = with_limits(PACKED, || case.ours_stored(&device.autodiff(), true));
    got.iter().enumerate().for_each(|(pass, got)| check(&case, pass, got));
}

/// A network's features and gradients are close to those in f32.
#[test]
fn half_networks_are_close_to_f32() {
    let Some(device) = adapter::device() else { return };
    let device = device.autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(46);
    // Planes that are multiples of four in every stage on a GPU's kernels, and planes that are not.
    let gpu: ChangedLimits = |limits| DeviceLimits { software: false, ..limits };
    for (shape, on) in [([3, 3, 8, 64, 64], gpu), ([2, 3, 4, 40, 52], NATIVE)] {
        let clips = uniform(&mut rng, shape.iter().product(), 1.0, 0.0);
        let run = |half: bool| {
            let net = Backbone::new(&mut Init::new(5, &device), BackboneKind::R3dTiny);
            let net = net.with_half(half);
            let features = net.forward(tensor(&clips, shape, &device));
            assert_eq!(features.dtype(), DType::F32);
            // f16 gradients need this factor; it changes nothing else.
            let grads = features.clone().square().sum().mul_scalar(256.0).backward();
            let grads = gradients(&net, &GradientsParams::from_grads(grads, &net));
            (values(features.inner()), grads)
        };
        let (want, want_grads) = with_limits(on, || run(false));
        let (got, got_grads) = with_limits(on, || run(true));
        let largest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
        let error = want.iter().zip(&got).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        println!("{shape:?}: features off by {:.1e}", error / largest);
        assert!(error <= 5e-3 * largest, "{shape:?}: features off by {error}");
        assert_ne!(want, got, "not in half precision");
        let error = relative_distance(&got_grads, &want_grads);
        println!("{shape:?}: gradients off by {error:.1e}");
        assert!(error <= 0.1, "{shape:?}: gradients off by {error:.2e}");
    }
}
