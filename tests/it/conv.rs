//! The convolution's three passes on every device against plain f64, and their gradients in
//! automatic differentiation.

use std::collections::BTreeSet;
use std::process::Command;

use burn::tensor::{Device, Tensor};
use polyview::conv::testing::{distinct_variants, kernels, pass_as_on};
use polyview::conv::{ConvPass, ConvShape, conv3d};
use polyview::kernels::{DeviceLimits, Implementation, PlanError, Vendor, with_stock};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::skip::skip;
use crate::common::tensors::{tensor, uniform, values};

/// A convolution's operands and its three results in f64.
pub struct Case {
    pub shape: ConvShape,
    pub x: Vec<f32>,
    pub w: Vec<f32>,
    pub dy: Vec<f32>,
    pub exact: [Vec<f64>; 3],
}

const PASSES: [ConvPass; 3] = ConvPass::ALL;

impl Case {
    pub fn new(shape: ConvShape, rng: &mut ChaCha8Rng) -> Self {
        let x = uniform(rng, shape.input_len(), 1.0, 0.0);
        let w = uniform(rng, shape.weight_len(), 1.0, 0.0);
        let dy = uniform(rng, shape.output_len(), 1.0, 0.0);
        let mut exact = [vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]];
        each(&shape, |i, o, k| {
            exact[0][o] += f64::from(x[i]) * f64::from(w[k]);
            exact[1][i] += f64::from(dy[o]) * f64::from(w[k]);
            exact[2][k] += f64::from(dy[o]) * f64::from(x[i]);
        });
        Self { shape, x, w, dy, exact }
    }

    /// y, dx, dw through the public operation.
    fn ours(&self, device: &Device) -> [Vec<f32>; 3] {
        let ConvShape { stride, padding, .. } = self.shape;
        let x = tensor(&self.x, self.shape.x(), device).require_grad();
        let w = tensor(&self.w, self.shape.w(), device).require_grad();
        let y = conv3d(x.clone(), w.clone(), stride, padding);
        let dy = tensor(&self.dy, self.shape.y(), device);
        let grads = y.clone().mul(dy).sum().backward();
        [y.inner(), x.grad(&grads).unwrap(), w.grad(&grads).unwrap()].map(values)
    }

    /// Largest error relative to the pass's largest value, over the bound 1e-5·√K.
    pub fn worst(&self, pass: usize, got: &[f32]) -> f64 {
        let taps = self.shape.taps();
        let terms = [
            self.shape.in_channels * taps,
            self.shape.out_channels * taps,
            self.dy.len() / self.shape.out_channels,
        ];
        let exact = &self.exact[pass];
        assert_eq!(got.len(), exact.len());
        let largest = exact.iter().fold(1e-30f64, |max, v| max.max(v.abs()));
        let error = got.iter().zip(exact).map(|(&got, want)| {
            let error = (f64::from(got) - want).abs();
            if error.is_nan() { f64::INFINITY } else { error }
        });
        error.fold(0.0, f64::max) / largest / (1e-5 * (terms[pass] as f64).sqrt())
    }
}

/// x, y, w indices that one multiply-add of the convolution connects.
fn each(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let [t, h, w] = shape.input;
    let [ot, oh, ow] = shape.output();
    let [kt, kh, kw] = shape.kernel;
    let near = |o: usize, axis: usize, k: usize| {
        let place = (o * shape.stride[axis] + k).checked_sub(shape.padding[axis]);
        place.filter(|&place| place < shape.input[axis])
    };
    for (n, k) in pairs(shape.batch, shape.out_channels) {
        for c in 0..shape.in_channels {
            for (a, y_t) in pairs(kt, ot) {
                let Some(x_t) = near(y_t, 0, a) else { continue };
                for (b, y_h) in pairs(kh, oh) {
                    let Some(x_h) = near(y_h, 1, b) else { continue };
                    for (d, y_w) in pairs(kw, ow) {
                        let Some(x_w) = near(y_w, 2, d) else { continue };
                        visit(
                            (((n * shape.in_channels + c) * t + x_t) * h + x_h) * w + x_w,
                            (((n * shape.out_channels + k) * ot + y_t) * oh + y_h) * ow + y_w,
                            (((k * shape.in_channels + c) * kt + a) * kh + b) * kw + d,
                        );
                    }
                }
            }
        }
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |a| (0..b).map(move |b| (a, b)))
}

fn random_shape(rng: &mut ChaCha8Rng, most: usize) -> ConvShape {
    const KERNELS: [[usize; 3]; 8] =
        [[1, 1, 1], [1, 3, 3], [3, 1, 1], [3, 3, 3], [1, 7, 7], [3, 7, 7], [2, 3, 1], [1, 2, 5]];
    loop {
        let kernel = KERNELS[rng.random_range(0..KERNELS.len())];
        let channels = |rng: &mut ChaCha8Rng| match rng.random_range(0..3) {
            0 => rng.random_range(1..6),
            1 => rng.random_range(1..20),
            _ => rng.random_range(1..71),
        };
        let wide = if rng.random_range(0..4) == 0 { 70 } else { 14 };
        let shape = ConvShape {
            batch: rng.random_range(1..4),
            in_channels: channels(rng),
            out_channels: channels(rng),
            input: [rng.random_range(1..7), rng.random_range(1..14), rng.random_range(1..wide)],
            kernel,
            stride: std::array::from_fn(|_| rng.random_range(1..3)),
            padding: std::array::from_fn(|_| rng.random_range(0..4)),
        };
        if shape.is_sound() && shape.multiply_adds() <= most {
            return shape;
        }
    }
}

fn random_shapes_agree(device: &Device, most: usize) {
    let device = device.clone().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut worst = [0.0f64; 3];
    for round in 0..300 {
        let case = Case::new(random_shape(&mut rng, most), &mut rng);
        let got = case.ours(&device);
        for (pass, got) in got.iter().enumerate() {
            let error = case.worst(pass, got);
            assert!(error <= 1.0, "{:?} of {:?}: {error}× the bound", PASSES[pass], case.shape);
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

/// Sixteen planes reached by the same time taps: the CPU kernels lay them out side by side.
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
            assert!(error <= 1.0, "{:?} of {shape:?}: {error}× the bound", PASSES[pass]);
        }
        done += 1;
    }
}

/// Bands of 24 and 23 rows of 14, which round up to the same number of columns.
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
            assert!(error <= 1.0, "{:?} of {shape:?}: {error}× the bound", PASSES[pass]);
        }
    }
}

/// The kernels for 16 registers of 8 lanes, which a machine with AVX-512 does not take by itself.
#[test]
fn conv_agrees_with_f64_on_cpu_without_avx512() {
    if polyview_cpu::vectors() != "AVX-512" {
        return skip("this machine has no AVX-512 to do without");
    }
    // What the vectors are is settled once in a process.
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

/// The kernels that a device with these limits would take, all of them carried out.
fn kernels_agree(seed: u64, count: usize, limits: impl Fn(DeviceLimits) -> DeviceLimits) {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut refused = 0;
    for _ in 0..count {
        let case = Case::new(random_shape(&mut rng, 2_000_000), &mut rng);
        let shape = &case.shape;
        let x = tensor(&case.x, shape.x(), &device);
        let w = tensor(&case.w, shape.w(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        let operands = [[&x, &w], [&dy, &w], [&x, &dy]];
        for (pass, operands) in operands.into_iter().enumerate() {
            let operands = operands.map(|operand| operand.clone());
            match pass_as_on(&limits, None, PASSES[pass], shape, operands).unwrap() {
                Ok(got) => {
                    let error = case.worst(pass, &values(got));
                    assert!(error <= 1.0, "{:?} of {shape:?}: {error}× the bound", PASSES[pass]);
                }
                Err(PlanError::TooManyGroups) => refused += 1,
                Err(error) => panic!("{shape:?}: {error}"),
            }
        }
    }
    assert!(refused < count, "{refused} of {} passes refused", 3 * count);
}

#[test]
fn conv_tiles_agree_with_f64() {
    let gpu = |vendor| move |limits| DeviceLimits { software: false, vendor, ..limits };
    for (seed, vendor) in (1..).zip([Vendor::Nvidia, Vendor::Apple, Vendor::Intel]) {
        kernels_agree(seed, 50, gpu(vendor));
    }
    // Few workgroups per dimension make plans fold dimensions, and refuse some shapes.
    let few = |limits| DeviceLimits { max_workgroups_per_dim: 24, ..limits };
    kernels_agree(4, 40, |limits| few(gpu(Vendor::Amd)(limits)));
    kernels_agree(5, 40, |limits| few(DeviceLimits { software: true, ..limits }));
}

/// Shapes whose planes and rows allow loads of four values in some pass, and shapes that just do not.
fn wide_shape(rng: &mut ChaCha8Rng) -> ConvShape {
    const KERNELS: [[usize; 3]; 5] = [[1, 1, 1], [3, 1, 1], [2, 1, 1], [1, 3, 3], [3, 3, 3]];
    loop {
        let kernel = KERNELS[rng.random_range(0..KERNELS.len())];
        let mut stride = [1; 3];
        for step in &mut stride {
            *step += usize::from(rng.random_range(0..3) == 0);
        }
        let shape = ConvShape {
            batch: rng.random_range(1..4),
            in_channels: rng.random_range(1..30),
            out_channels: rng.random_range(1..70),
            input: [
                rng.random_range(1..6),
                rng.random_range(1..8),
                [2, 3, 4, 8, 12, 14, 24][rng.random_range(0..7)],
            ],
            kernel,
            stride,
            padding: [rng.random_range(0..3), rng.random_range(0..2), (kernel[2] - 1) / 2],
        };
        if shape.is_sound() && shape.multiply_adds() <= 600_000 {
            return shape;
        }
    }
}

/// Every way in which the tiles read their source and write their result.
#[test]
fn conv_with_wide_loads_agrees_with_f64() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let mut seen = BTreeSet::new();
    for round in 0..150 {
        let case = Case::new(wide_shape(&mut rng), &mut rng);
        let shape = &case.shape;
        let vendor = [Vendor::Amd, Vendor::Unknown][round % 2];
        let limits = |limits| DeviceLimits { software: false, vendor, ..limits };
        let known = limits(polyview::kernels::limits(&device).unwrap());
        let x = tensor(&case.x, shape.x(), &device);
        let w = tensor(&case.w, shape.w(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        for (pass, operands) in PASSES[..2].iter().zip([[&x, &w], [&dy, &w]]) {
            let got = pass_as_on(limits, None, *pass, shape, operands.map(Tensor::clone)).unwrap();
            let error = case.worst(*pass as usize, &values(got.unwrap()));
            assert!(error <= 1.0, "{pass:?} of {shape:?}: {error}× the bound");
            let kernels = kernels(*pass, shape, &known, None).unwrap();
            let form =
                |kernel: &String| kernel.split_once("form: ").map(|(_, form)| form.to_owned());
            seen.extend(kernels.iter().filter_map(form));
        }
    }
    // By table, one by one, four of a plane, four of a row; with one tap and more; written four at a
    // time and one by one.
    assert_eq!(seen.len(), 9, "{seen:#?}");
}

/// Without subgroup operations a software rasteriser takes the tiles of a GPU.
#[test]
fn conv_agrees_with_f64_on_software_without_subgroups() {
    let alone = |limits| DeviceLimits { software: true, subgroup_operations: false, ..limits };
    kernels_agree(5, 40, alone);
}

/// Every variant that `--tune` may choose, on shapes that fill no tile evenly.
#[test]
fn conv_in_every_variant_agrees_with_f64() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let gpu = |vendor| move |limits| DeviceLimits { software: false, vendor, ..limits };
    let software = |limits| DeviceLimits { software: true, ..limits };
    let kinds: [&dyn Fn(DeviceLimits) -> DeviceLimits; 4] =
        [&gpu(Vendor::Nvidia), &software, &gpu(Vendor::Apple), &gpu(Vendor::Intel)];
    let mut agreed = 0;
    for round in 0..12 {
        let case = Case::new(random_shape(&mut rng, 1_000_000), &mut rng);
        let shape = &case.shape;
        let x = tensor(&case.x, shape.x(), &device);
        let w = tensor(&case.w, shape.w(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        let limits = kinds[round % kinds.len()];
        let known = limits(polyview::kernels::limits(&device).unwrap());
        for (pass, operands) in PASSES.into_iter().zip([[&x, &w], [&dy, &w], [&x, &dy]]) {
            let variants = distinct_variants(pass, shape, &known);
            for &variant in &variants {
                let operands = operands.map(Tensor::clone);
                let got = pass_as_on(limits, Some(variant), pass, shape, operands).unwrap();
                let got = values(got.unwrap());
                let error = case.worst(pass as usize, &got);
                assert!(error <= 1.0, "{pass:?} of {shape:?}, {variant:?}: {error}× the bound");
            }
            assert!(variants.len() >= 3, "{pass:?} of {shape:?}: {} variants", variants.len());
            agreed += variants.len();
        }
    }
    println!("{agreed} plans agree");
}

/// Every way to load the operands of the weight gradient, in every tile: planes that are multiples of
/// four and planes that are not, tiles that are not filled, strides, taps that no position meets, sums
/// in one part and in several.
#[test]
fn conv_weight_gradient_agrees_with_f64_however_it_is_loaded() {
    let Some(device) = adapter::device() else { return };
    let gpu = |limits| DeviceLimits { software: false, workgroup_memory: 32 << 10, ..limits };
    let known = gpu(polyview::kernels::limits(&device).unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    // Batch and channels, then input, kernel, stride, padding.
    let shapes: &[([usize; 3], [[usize; 3]; 4])] = &[
        // Three taps along w.
        ([2, 33, 50], [[3, 5, 8], [1, 3, 3], [1, 1, 1], [0, 1, 1]]),
        ([1, 20, 70], [[4, 6, 7], [3, 3, 3], [1, 1, 1], [1, 1, 1]]),
        ([2, 17, 5], [[2, 3, 1], [1, 1, 3], [1, 1, 1], [0, 0, 1]]),
        ([2, 18, 9], [[5, 6, 5], [3, 3, 3], [2, 2, 1], [3, 2, 1]]),
        ([3, 34, 66], [[2, 9, 17], [1, 1, 3], [1, 1, 1], [0, 0, 1]]),
        // The same in rows of multiples of four.
        ([2, 33, 50], [[2, 5, 16], [1, 3, 3], [1, 1, 1], [0, 1, 1]]),
        ([1, 18, 70], [[5, 4, 20], [3, 3, 3], [2, 1, 1], [1, 3, 1]]),
        ([3, 35, 19], [[2, 5, 28], [1, 1, 3], [1, 2, 1], [0, 0, 1]]),
        // Taps of their own.
        ([2, 18, 40], [[2, 7, 6], [1, 3, 3], [1, 1, 1], [0, 1, 2]]),
        ([2, 18, 40], [[2, 6, 9], [1, 3, 3], [1, 2, 2], [0, 1, 1]]),
        ([1, 70, 18], [[4, 5, 6], [2, 3, 3], [1, 1, 1], [0, 0, 0]]),
        // Taps along t, planes of multiples of four and others.
        ([2, 40, 66], [[5, 6, 6], [3, 1, 1], [1, 1, 1], [1, 0, 0]]),
        ([2, 66, 40], [[6, 2, 6], [3, 1, 1], [2, 1, 1], [2, 0, 0]]),
        ([2, 40, 66], [[5, 5, 7], [3, 1, 1], [1, 1, 1], [1, 0, 0]]),
        // Taps along h, rows of multiples of four.
        ([2, 21, 35], [[3, 7, 8], [1, 3, 1], [1, 2, 1], [0, 1, 0]]),
        // No taps: clips of a multiple of four, others, strides, padding.
        ([3, 35, 37], [[3, 10, 12], [1, 1, 1], [1, 1, 1], [0, 0, 0]]),
        ([3, 35, 37], [[3, 5, 7], [1, 1, 1], [1, 1, 1], [0, 0, 0]]),
        ([2, 70, 20], [[3, 8, 12], [1, 1, 1], [2, 2, 2], [0, 0, 0]]),
        ([1, 19, 20], [[2, 3, 4], [1, 1, 1], [1, 1, 1], [1, 2, 1]]),
        // Few channels.
        ([2, 3, 45], [[2, 20, 22], [1, 7, 7], [1, 2, 2], [0, 3, 3]]),
        ([2, 9, 33], [[3, 7, 9], [3, 3, 3], [1, 1, 1], [1, 1, 1]]),
    ];
    let mut agreed = 0;
    for &([batch, in_channels, out_channels], [input, kernel, stride, padding]) in shapes {
        let shape = ConvShape { batch, in_channels, out_channels, input, kernel, stride, padding };
        let case = Case::new(shape, &mut rng);
        let x = tensor(&case.x, shape.x(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        let pass = ConvPass::WeightGradient;
        let run = |variant| {
            let operands = [x.clone(), dy.clone()];
            values(pass_as_on(gpu, variant, pass, &shape, operands).unwrap().unwrap())
        };
        let usual = run(None);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&usual), bits(&run(None)), "{shape:?}");
        let variants = distinct_variants(pass, &shape, &known);
        for variant in variants.iter().copied() {
            let error = case.worst(pass as usize, &run(Some(variant)));
            assert!(error <= 1.0, "{shape:?}, {variant:?}: {error}× the bound");
        }
        assert!(variants.len() >= 5, "{shape:?}: {} variants", variants.len());
        let error = case.worst(pass as usize, &usual);
        assert!(error <= 1.0, "{shape:?}: {error}× the bound");
        agreed += variants.len();
    }
    println!("{agreed} plans agree");
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

/// What the shaders do not serve goes to Burn's convolution.
#[test]
fn conv_falls_back_on_stock() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let shape = ConvShape {
        batch: 1,
        in_channels: 1,
        out_channels: 2,
        input: [1, 1, 40],
        kernel: [1, 1, 32],
        stride: [1; 3],
        padding: [0; 3],
    };
    let case = Case::new(shape, &mut rng);
    for (pass, got) in case.ours(&device.autodiff()).iter().enumerate() {
        assert!(case.worst(pass, got) <= 1.0, "{:?}", PASSES[pass]);
    }
    assert_eq!(with_stock(|| Implementation::of(&Device::flex())), Implementation::Burn);
    assert_eq!(Implementation::of(&Device::flex()), Implementation::Cpu);
}

/// relu(conv(relu(conv(x)))) summed with weights: a function of its first convolution's weights.
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
            assert!(error < 2e-3, "layer {which}: {slope}, by differences {measured}");
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
