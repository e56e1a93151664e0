//! The convolution's three passes on every device against plain f64, and the gradients from
//! automatic differentiation.

use std::process::Command;

use burn::tensor::{Device, Tensor};
use polyview::conv::{ConvPass, ConvShape, conv3d};
use polyview::kernels::{Implementation, with_stock};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::conv::{Case, UNSERVED, assert_unserved, each, random_shape};
use crate::common::skip::skip;
use crate::common::tensors::{tensor, uniform, values};

fn random_shapes_agree(device: &Device, most: usize) {
    let device = device.clone().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut worst = [0.0f64; 3];
    for round in 0..300 {
        let case = Case::new(random_shape(&mut rng, most), &mut rng);
        let got = case.ours(&device);
        for (pass, got) in got.iter().enumerate() {
            let error = case.worst(pass, got);
            assert!(
                error <= 1.0,
                "{:?} of {:?}: {error}× the bound",
                ConvPass::ALL[pass],
                case.shape
            );
            worst[pass] = worst[pass].max(error);
        }
        if round % 10 == 0 {
            let again = case.ours(&device);
            let bits = |values: &Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(got.each_ref().map(bits), again.each_ref().map(bits), "{:?}", case.shape);
        }
    }
    println!("largest errors over 1e-5·√K: {worst:.4?}");
}

#[test]
fn conv_agrees_with_f64_on_cpu() {
    assert_eq!(Implementation::of(&Device::flex()), Implementation::Cpu);
    random_shapes_agree(&Device::flex(), 600_000);
}

/// Sixteen planes with the same taps along t: the CPU kernels lay them out side by side.
#[test]
fn conv_agrees_with_f64_on_cpu_with_planes_side_by_side() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let mut done = 0;
    while done < 60 {
        let mut shape = random_shape(&mut rng, 100_000);
        shape.batch = [2, 4, 8, 16][done % 4];
        shape.input[0] = 16 / shape.batch;
        (shape.kernel[0], shape.stride[0], shape.padding[0]) = (1, 1, 0);
        if shape.multiply_adds() > 2_000_000 {
            continue;
        }
        let case = Case::new(shape, &mut rng);
        for (pass, got) in case.ours(&device).iter().enumerate() {
            let error = case.worst(pass, got);
            assert!(error <= 1.0, "{:?} of {shape:?}: {error}× the bound", ConvPass::ALL[pass]);
        }
        done += 1;
    }
}

/// Bands of 24 and 23 rows of width 14, which round up to the same number of columns.
#[test]
fn conv_agrees_with_f64_on_cpu_in_uneven_bands() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    for wide in [14, 56] {
        let (input, kernel) = ([4, 53, wide], [3, 7, 1]);
        let (stride, padding) = ([2, 1, 1], [0, 0, 0]);
        let (batch, in_channels, out_channels) = (1, 28, 3);
        let shape = ConvShape { batch, in_channels, out_channels, input, kernel, stride, padding };
        let case = Case::new(shape, &mut rng);
        for (pass, got) in case.ours(&device).iter().enumerate() {
            let error = case.worst(pass, got);
            assert!(error <= 1.0, "{:?} of {shape:?}: {error}× the bound", ConvPass::ALL[pass]);
        }
    }
}

/// The kernels for 16 registers of 8 lanes, which a machine with AVX-512 does not use by default.
#[test]
fn conv_agrees_with_f64_on_cpu_without_avx512() {
    if polyview_cpu::vectors() != "AVX-512" {
        return skip("this machine has no AVX-512 to disable");
    }
    // The vector width is chosen once per process, hence the child process.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "conv::conv_agrees_with_f64_on_cpu"]);
    child.arg("conv::conv_agrees_with_f64_on_cpu_with_planes_side_by_side");
    let output = child.env("POLYVIEW_WITHOUT_AVX512", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("2 passed"), "{text}");
}

#[test]
fn conv_agrees_with_f64_on_wgpu() {
    let Some(device) = adapter::device() else { return };
    assert!(matches!(Implementation::of(&device), Implementation::Wgsl(_)));
    random_shapes_agree(&device, 2_000_000);
}

#[test]
fn conv_has_the_same_bits_with_any_number_of_threads() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for _ in 0..30 {
        let case = Case::new(random_shape(&mut rng, 600_000), &mut rng);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let results = pool.install(|| case.ours(&device));
            results.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3), "{:?}", case.shape);
    }
}

#[test]
fn conv_counts_the_multiply_adds_that_meet_the_input() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for _ in 0..100 {
        let shape = random_shape(&mut rng, 100_000);
        let mut count = 0;
        each(&shape, |_, _, _| count += 1);
        assert_eq!(shape.useful_multiply_adds(), count, "{shape:?}");
    }
}

/// Shapes that the shaders do not support fall back to Burn's convolution.
#[test]
fn conv_falls_back_on_stock() {
    let Some(device) = adapter::device() else { return };
    assert_unserved(&device);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let case = Case::new(UNSERVED, &mut rng);
    for (pass, got) in case.ours(&device.autodiff()).iter().enumerate() {
        assert!(case.worst(pass, got) <= 1.0, "{:?}", ConvPass::ALL[pass]);
    }
    assert_eq!(with_stock(|| Implementation::of(&Device::flex())), Implementation::Burn);
    assert_eq!(Implementation::of(&Device::flex()), Implementation::Cpu);
}

/// The sum of conv(softplus(conv(x))), weighted by `coefficients`.
fn network(x: &Tensor<5>, weights: [&Tensor<5>; 2], coefficients: &Tensor<5>) -> Tensor<1> {
    use burn::tensor::activation::softplus;
    let hidden = softplus(conv3d(x.clone(), weights[0].clone(), [1, 2, 2], [1, 1, 1]), 1.0);
    let out = conv3d(hidden, weights[1].clone(), [2, 1, 1], [0, 0, 0]);
    out.mul(coefficients.clone()).sum()
}

#[test]
fn conv_gradients_agree_with_finite_differences() {
    let run = |device: &Device| {
        let mut rng = ChaCha8Rng::seed_from_u64(10);
        let mut draw = |shape: [usize; 5], device: &Device| {
            tensor(&uniform(&mut rng, shape.iter().product(), 1.0, 0.0), shape, device)
        };
        let ad = device.clone().autodiff();
        let x = draw([2, 3, 4, 9, 7], &ad);
        let w = [draw([5, 3, 3, 3, 3], &ad), draw([4, 5, 1, 1, 1], &ad)];
        let w = w.map(|w| w.mul_scalar(0.2).detach().require_grad());
        let direction = [draw([5, 3, 3, 3, 3], device), draw([4, 5, 1, 1, 1], device)];
        let coefficients = draw([2, 4, 2, 5, 4], &ad);
        let grads = network(&x, [&w[0], &w[1]], &coefficients).backward();
        for which in 0..2 {
            let gradient = w[which].grad(&grads).unwrap();
            let slope: f32 = gradient.mul(direction[which].clone()).sum().into_scalar();
            let step = 1e-2;
            let at = |side: f32| -> f32 {
                let mut w = w.each_ref().map(|w| w.clone().inner());
                let moved = direction[which].clone().mul_scalar(side * step);
                w[which] = w[which].clone().add(moved);
                let x = x.clone().inner();
                network(&x, [&w[0], &w[1]], &coefficients.clone().inner()).into_scalar()
            };
            let measured = (at(1.0) - at(-1.0)) / (2.0 * step);
            let error = (slope - measured).abs() / measured.abs().max(1.0);
            assert!(error < 2e-3, "layer {which}: {slope}, by finite differences {measured}");
        }
    };
    run(&Device::flex());
    if let Some(device) = adapter::device() {
        run(&device);
    }
}

#[test]
fn conv_computes_only_the_gradients_needed() {
    for device in [Some(Device::flex()), adapter::device()].into_iter().flatten() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        for device in [device.clone().autodiff(), device.autodiff().gradient_checkpointing()] {
            let x = tensor(&uniform(&mut rng, 3 * 4 * 36, 1.0, 0.0), [1, 3, 4, 6, 6], &device);
            let w = tensor(&uniform(&mut rng, 5 * 3 * 27, 1.0, 0.0), [5, 3, 3, 3, 3], &device);
            let top = tensor(&uniform(&mut rng, 2 * 5, 1.0, 0.0), [2, 5, 1, 1, 1], &device);
            let run = |w: &Tensor<5>, top: &Tensor<5>| {
                let y = conv3d(x.clone(), w.clone(), [1; 3], [1; 3]);
                let y = burn::tensor::activation::relu(y);
                let grads = conv3d(y, top.clone(), [1; 3], [0; 3]).sum().backward();
                [w.grad(&grads), top.grad(&grads)].map(|grad| grad.map(values))
            };
            let tracked = [w.clone().require_grad(), top.clone().require_grad()];
            let [of_w, of_top] = run(&tracked[0], &tracked[1]);
            let [lower, upper] = run(&w, &tracked[1]);
            assert_eq!((lower, &upper), (None, &of_top), "a frozen lower layer");
            let [lower, upper] = run(&tracked[0], &top);
            assert_eq!((&lower, upper), (&of_w, None), "a frozen upper layer");
            assert!(of_w.is_some() && of_top.is_some());
        }
    }
}
