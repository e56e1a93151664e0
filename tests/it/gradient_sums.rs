//! The sums that a convolution's input gradient computes for the preceding normalisation, and the
//! backward pass that uses them.

use burn::tensor::{Device, Tensor};
use polyview::conv::testing::{distinct_variants, input_gradient_with_sums_on, variants_by_units};
use polyview::conv::{ConvPass, ConvShape, conv3d_between_norms};
use polyview::half::{to_float, to_half};
use polyview::kernels::{ChangedLimits, DeviceLimits, MatrixUnits, limits, with_limits};
use polyview::norm::{Affine, After, by_batch};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::conv::{Case, random_shape, rounded, wide_shape};
use crate::common::tensors::{tensor, uniform, values};

/// The limits with the kernels of GPUs, whatever the device.
const TILES: ChangedLimits = |limits| DeviceLimits { software: false, ..limits };
/// The same without f16 in shaders.
const PACKED: ChangedLimits =
    |limits| DeviceLimits { software: false, shader_f16: false, ..limits };
/// The limits with emulated matrix units.
const EMULATED: ChangedLimits = |limits| {
    let units = MatrixUnits { size: 8, lanes: 32, scalars: false, emulated: true };
    DeviceLimits { software: false, matrix_units: Some(units), ..limits }
};

/// Input of the normalisation before the convolution, and mean, scale and shift of its channels.
struct Before {
    x: Vec<f32>,
    layer: [Vec<f32>; 3],
}

impl Before {
    fn new(shape: &ConvShape, half: bool, rng: &mut ChaCha8Rng) -> Self {
        let x = uniform(rng, shape.input_len(), 1.0, 3.0);
        let x = if half { rounded(&x) } else { x };
        let layer = [(0.3, 3.0), (0.8, 0.5), (0.5, 0.0)];
        Self { x, layer: layer.map(|(spread, at)| uniform(rng, shape.in_channels, spread, at)) }
    }

    /// Checks the sums, in parts of `slice` values, against those of the gradient `dx`.
    #[track_caller]
    fn check(&self, shape: &ConvShape, dx: &[f64], sums: &[f32], slice: usize, tolerance: f64) {
        let plane = shape.input.iter().product::<usize>();
        let parts = (shape.batch * plane).div_ceil(slice);
        assert_eq!(sums.len(), 2 * parts * shape.in_channels);
        for (channel, found) in sums.chunks(2 * parts).enumerate() {
            let [mean, scale, shift] = self.layer.each_ref().map(|of| f64::from(of[channel]));
            let images =
                (0..shape.batch).map(|image| (image * shape.in_channels + channel) * plane);
            let positions: Vec<usize> = images.flat_map(|start| start..start + plane).collect();
            for (part, found) in positions.chunks(slice).zip(found.chunks(2)) {
                let [mut want, mut size] = [[0.0; 2], [1e-6; 2]];
                for &at in part {
                    let deviation = f64::from(self.x[at]) - mean;
                    let g = if deviation * scale + shift > 0.0 { dx[at] } else { 0.0 };
                    for (n, term) in [g, g * deviation].into_iter().enumerate() {
                        want[n] += term;
                        size[n] += dx[at].abs() * [1.0, deviation.abs()][n];
                    }
                }
                for n in 0..2 {
                    let error = (f64::from(found[n]) - want[n]).abs() / size[n];
                    assert!(error <= tolerance, "{shape:?}: {found:?} for {want:?}");
                }
            }
        }
    }
}

/// Every tile, in f32: windows of one tap and of many, planes that are written four values at a
/// time and others.
#[test]
fn gradient_sums_of_a_convolution_agree_with_f64() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(71);
    let known = TILES(limits(&device).unwrap());
    let [mut by_fours, mut one_by_one, mut in_parts] = [0; 3];
    for round in 0..12 {
        let shape = match round % 2 {
            0 => random_shape(&mut rng, 600_000),
            _ => wide_shape(&mut rng),
        };
        let shape = ConvShape { stride: [1; 3], ..shape };
        if !shape.is_sound() || shape.multiply_adds() > 1_000_000 {
            continue;
        }
        let case = Case::new(shape, &mut rng);
        let before = Before::new(&shape, false, &mut rng);
        let variants = distinct_variants(ConvPass::InputGradient, &shape, &known);
        for variant in variants.into_iter().map(Some).chain([None]) {
            let run = || {
                let operands = [
                    tensor(&case.dy, shape.y(), &device),
                    tensor(&case.w, shape.w(), &device),
                    tensor(&before.x, shape.x(), &device),
                ];
                let layer = before.layer.each_ref().map(|of| &of[..]);
                input_gradient_with_sums_on(TILES, variant, &shape, operands, layer)
            };
            // Split sums have no epilogue.
            let Some((dx, sums, slice)) = run().unwrap().unwrap() else { continue };
            assert!(case.worst(1, &values(dx)) < 1.0, "{shape:?}, {variant:?}");
            let sums = values(sums);
            before.check(&shape, &case.exact[1], &sums, slice, 1e-4);
            let (_, again, _) = run().unwrap().unwrap().unwrap();
            assert_eq!(values(again), sums, "{shape:?}, {variant:?}: different bits");
            let plane: usize = shape.input.iter().product();
            *if plane.is_multiple_of(4) { &mut by_fours } else { &mut one_by_one } += 1;
            in_parts += usize::from(shape.batch * plane > slice);
        }
    }
    println!(
        "{by_fours} with planes of multiples of four, {one_by_one} with others, {in_parts} in parts"
    );
    assert!(by_fours >= 10 && one_by_one >= 5 && in_parts >= 10);
}

/// With strided windows, the normalisation computes the sums itself.
#[test]
fn strided_windows_give_no_gradient_sums() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(72);
    let shape = ConvShape {
        batch: 1,
        in_channels: 8,
        out_channels: 8,
        input: [4, 8, 8],
        kernel: [1, 3, 3],
        stride: [1, 2, 2],
        padding: [0, 1, 1],
    };
    let case = Case::new(shape, &mut rng);
    let before = Before::new(&shape, false, &mut rng);
    let operands = [
        tensor(&case.dy, shape.y(), &device),
        tensor(&case.w, shape.w(), &device),
        tensor(&before.x, shape.x(), &device),
    ];
    let layer = before.layer.each_ref().map(|of| &of[..]);
    let found = input_gradient_with_sums_on(TILES, None, &shape, operands, layer);
    assert!(found.unwrap().unwrap().is_none());
}

/// In half precision: with the device's f16, with packed words, and with emulated matrix units.
#[test]
fn half_convolutions_give_gradient_sums() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(73);
    let f16 = limits(&device).unwrap().shader_f16;
    let ways: &[ChangedLimits] = if f16 { &[PACKED, TILES, EMULATED] } else { &[PACKED] };
    let mut given = vec![0; ways.len()];
    for round in 0..8 {
        let width = [8, 12, 13, 24][round % 4];
        let shape = wide_shape(&mut rng);
        let shape = ConvShape { stride: [1; 3], input: [shape.input[0], 6, width], ..shape };
        if !shape.is_sound() {
            continue;
        }
        let case = Case::in_half(shape, &mut rng);
        let before = Before::new(&shape, true, &mut rng);
        for (way, given) in ways.iter().zip(&mut given) {
            let known = way(limits(&device).unwrap());
            let units = variants_by_units(ConvPass::InputGradient, &shape, &known);
            for variant in units.into_iter().map(Some).chain([None]) {
                let operands = [
                    to_half(tensor(&case.dy, shape.y(), &device)),
                    tensor(&case.w, shape.w(), &device),
                    to_half(tensor(&before.x, shape.x(), &device)),
                ];
                let layer = before.layer.each_ref().map(|of| &of[..]);
                let found = input_gradient_with_sums_on(way, variant, &shape, operands, layer);
                // Planes that are not written four values at a time give no sums.
                let Some((_, sums, slice)) = found.unwrap().unwrap() else { continue };
                before.check(&shape, &case.exact[1], &values(sums), slice, 2e-3);
                *given += 1;
            }
        }
    }
    println!("{given:?} convolutions gave sums");
    assert!(given.iter().all(|&given| given >= 3), "{given:?}");
}

/// A normalisation with ReLU and the convolution that reads its output.
struct Chain {
    shape: ConvShape,
    x: Vec<f32>,
    w: Vec<f32>,
    layer: [Vec<f32>; 2],
    dy: Vec<f32>,
}

impl Chain {
    fn new(shape: ConvShape, rng: &mut ChaCha8Rng) -> Self {
        let x = uniform(rng, shape.input_len(), 1.0, 2.0);
        let w = uniform(rng, shape.weight_len(), 1.0, 0.0);
        let layer = [(0.5, 1.0), (0.5, 0.0)];
        let layer = layer.map(|(spread, at)| uniform(rng, shape.in_channels, spread, at));
        let dy = uniform(rng, shape.output_len(), 1.0, 0.2);
        Self { shape, x, w, layer, dy }
    }

    /// Returns the gradients of x, γ, β and w. With `known`, the convolution knows the producer of
    /// its input; with `branches`, something else reads that input too.
    fn gradients(&self, device: &Device, half: bool, known: bool, branches: bool) -> [Vec<f32>; 4] {
        let Self { shape, .. } = self;
        let x = tensor(&self.x, shape.x(), device).require_grad();
        let w = tensor(&self.w, shape.w(), device).require_grad();
        let [gamma, beta] =
            self.layer.each_ref().map(|of| tensor(of, [of.len()], device).require_grad());
        let affine = Affine { gamma: gamma.clone(), beta: beta.clone(), epsilon: 1e-5 };
        let stored = if half { to_half(x.clone()) } else { x.clone() };
        let normalised = by_batch(stored, None, affine, After::Relu);
        let producer = normalised.producer.filter(|_| known);
        let y = normalised.output;
        let (out, _) =
            conv3d_between_norms(y.clone(), w.clone(), shape.stride, shape.padding, producer);
        let mut loss = to_float(out).mul(tensor(&self.dy, shape.y(), device)).sum();
        if branches {
            loss = loss.add(to_float(y).square().sum());
        }
        let grads = loss.backward();
        [
            values(x.grad(&grads).unwrap()),
            values(gamma.grad(&grads).unwrap()),
            values(beta.grad(&grads).unwrap()),
            values(w.grad(&grads).unwrap()),
        ]
    }
}

/// The gradients are the same whether the convolution or the normalisation computes the sums, even
/// if the convolution has only a part of the gradient.
#[test]
fn norm_uses_gradient_sums() {
    let Some(device) = adapter::device() else { return };
    let device = device.autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(74);
    // Few parts, and more than the next kernel adds up directly.
    for (batch, input) in [(2, [2, 6, 8]), (1, [2, 5, 7]), (4, [8, 12, 24])] {
        let shape = ConvShape {
            batch,
            in_channels: 9,
            out_channels: 70,
            input,
            kernel: [1, 3, 3],
            stride: [1; 3],
            padding: [0, 1, 1],
        };
        let chain = Chain::new(shape, &mut rng);
        for (half, branches) in [(false, false), (false, true), (true, false), (true, true)] {
            let run =
                |known| with_limits(PACKED, || chain.gradients(&device, half, known, branches));
            let tolerance = if half { 4e-3 } else { 1e-4 };
            for (got, want) in run(true).iter().zip(&run(false)) {
                let largest = want.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
                for (a, b) in got.iter().zip(want) {
                    let error = (a - b).abs() / largest;
                    assert!(error <= tolerance, "{shape:?}, {half}, {branches}: {a}, {b}");
                }
            }
        }
    }
}

/// The convolution stores the sums with its gradient; they are used with that gradient only.
#[test]
fn gradient_sums_are_stored_and_used() {
    let Some(device) = adapter::device() else { return };
    let device = device.autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(75);
    let shape = ConvShape {
        batch: 2,
        in_channels: 8,
        out_channels: 70,
        input: [2, 8, 8],
        kernel: [3, 1, 1],
        stride: [1; 3],
        padding: [1, 0, 0],
    };
    let chain = Chain::new(shape, &mut rng);
    with_limits(TILES, || {
        let x = tensor(&chain.x, shape.x(), &device).require_grad();
        let w = tensor(&chain.w, shape.w(), &device);
        let [gamma, beta] = chain.layer.each_ref().map(|of| tensor(of, [of.len()], &device));
        let affine = Affine { gamma, beta, epsilon: 1e-5 };
        let normalised = by_batch(x.clone(), None, affine, After::Relu);
        let producer = normalised.producer.expect("a normalisation with ReLU has one");
        // Detached, so that the first backward pass only covers the convolution.
        let y = normalised.output.clone().detach().require_grad();
        let (out, _) =
            conv3d_between_norms(y.clone(), w, shape.stride, shape.padding, Some(producer.clone()));
        assert!(!producer.has_sums());
        let grads = out.sum().backward();
        assert!(producer.has_sums());
        let dy = Tensor::from_inner(y.grad(&grads).unwrap());
        normalised.output.mul(dy).sum().backward();
        assert!(!producer.has_sums(), "the backward pass of the normalisation removes the sums");
    });
}
