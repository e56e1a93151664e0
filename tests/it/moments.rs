//! Batch statistics that a convolution computes together with its output, and the batch norm that
//! uses them.

use burn::tensor::{Device, Tensor, TensorData};
use polyview::conv::testing::{distinct_variants, forward_with_moments_on};
use polyview::conv::{ConvPass, ConvShape};
use polyview::kernels::DeviceLimits;
use polyview::norm::{Affine, After, Moments, by_batch};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::tensors::{uniform, values};

/// Returns the mean and the sum of squared deviations of each slice of each channel of
/// `[N, C, T, H, W]`, in the kernels' order.
fn exact(y: &[f32], shape: [usize; 5], slice: usize) -> Vec<[f64; 2]> {
    let [n, channels, t, h, w] = shape;
    let plane = t * h * w;
    let mut all = Vec::new();
    for channel in 0..channels {
        let places =
            (0..n * plane).map(|at| (at / plane * channels + channel) * plane + at % plane);
        let of: Vec<f64> = places.map(|at| f64::from(y[at])).collect();
        for part in of.chunks(slice) {
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            all.push([mean, part.iter().map(|v| (v - mean).powi(2)).sum()]);
        }
    }
    all
}

/// Tests every tile that computes moments, on shapes that fill no tile evenly. The values are far
/// from zero, where a plain sum of squares would lose all digits.
#[test]
fn moments_of_a_convolution_agree_with_f64() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let shape = |batch, channels: [usize; 2], input, kernel, stride, padding| ConvShape {
        batch,
        in_channels: channels[0],
        out_channels: channels[1],
        input,
        kernel,
        stride,
        padding,
    };
    let shapes = [
        shape(3, [5, 7], [2, 9, 11], [1, 3, 3], [1; 3], [0, 1, 1]),
        shape(1, [1, 1], [1, 1, 1], [1; 3], [1; 3], [0; 3]),
        shape(2, [6, 70], [3, 8, 8], [3, 1, 1], [1; 3], [1, 0, 0]),
        shape(2, [8, 45], [2, 13, 20], [1; 3], [2, 2, 2], [0; 3]),
        // So few channels that they are read through a table, which is split no further.
        shape(2, [3, 50], [1, 12, 12], [1, 3, 3], [1, 2, 2], [0, 1, 1]),
    ];
    let limits = |limits| DeviceLimits { software: false, ..limits };
    let known = limits(polyview::kernels::limits(&device).unwrap());
    let (mut given, mut sliced) = (0, 0);
    for shape in shapes {
        let tensor = |values: Vec<f32>, shape: [usize; 5]| {
            Tensor::<5>::from_data(TensorData::new(values, shape), &device)
        };
        let x = tensor(uniform(&mut rng, shape.input_len(), 1.0, 20.0), shape.x());
        let w = tensor(uniform(&mut rng, shape.weight_len(), 1.0, 0.5), shape.w());
        let variants = distinct_variants(ConvPass::Forward, &shape, &known);
        for variant in variants.into_iter().map(Some).chain([None]) {
            let operands = [&x, &w].map(Tensor::clone);
            let run = || forward_with_moments_on(limits, variant, &shape, operands.clone());
            // Plans with split sums compute no moments.
            let Some((y, moments, slice)) = run().unwrap().unwrap() else { continue };
            let (y, moments) = (values(y), values(moments));
            let want = exact(&y, shape.y(), slice);
            assert_eq!(moments.len(), 2 * want.len(), "{shape:?}, {variant:?}");
            let spread = want.iter().fold(1e-3f64, |most, [_, squares]| most.max(*squares));
            let size = y.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
            for (got, want) in moments.chunks(2).zip(&want) {
                let errors = [0, 1].map(|n| (f64::from(got[n]) - want[n]).abs());
                assert!(errors[0] < 1e-6 * f64::from(size), "{shape:?}, {variant:?}: {got:?}");
                assert!(errors[1] < 1e-4 * spread, "{shape:?}, {variant:?}: {got:?}, {want:?}");
            }
            let (_, again, _) = run().unwrap().unwrap().unwrap();
            assert_eq!(values(again), moments, "{shape:?}, {variant:?}: bits differ");
            given += 1;
            sliced += usize::from(want.len() > shape.out_channels);
        }
    }
    assert!(
        given >= 20 && sliced >= 5,
        "{given} plans computed moments, {sliced} of them in several parts"
    );
}

/// Checks that the batch norm gives the same results with given moments, of few parts or many, as
/// with the statistics that it computes itself.
#[test]
fn norm_takes_moments() {
    let mut rng = ChaCha8Rng::seed_from_u64(32);
    for device in [Some(Device::flex()), adapter::device()].into_iter().flatten() {
        let device = device.autodiff();
        let shapes = [([2, 3, 2, 5, 7], 140), ([2, 5, 4, 16, 16], 64), ([3, 70, 1, 9, 9], 2)];
        for (shape, slice) in shapes {
            let [_, channels, ..] = shape;
            let count = shape.iter().product();
            let data = uniform(&mut rng, count, 1.0, 5.0);
            let moments = exact(&data, shape, slice).into_iter().flatten().map(|v| v as f32);
            let moments: Vec<f32> = moments.collect();
            let length = [moments.len()];
            let moments = Moments {
                parts: Tensor::from_data(TensorData::new(moments, length), &device),
                slice,
            };
            let x = Tensor::<5>::from_data(TensorData::new(data, shape), &device).require_grad();
            let channel = |values: Vec<f32>| {
                Tensor::<1>::from_data(TensorData::new(values, [channels]), &device).require_grad()
            };
            let gamma = channel(uniform(&mut rng, channels, 0.5, 1.0));
            let beta = channel(uniform(&mut rng, channels, 0.5, 0.0));
            let weight = uniform(&mut rng, count, 1.0, 0.0);
            let weight = Tensor::<5>::from_data(TensorData::new(weight, shape), &device);
            let run = |moments: Option<Moments>| {
                let affine = Affine { gamma: gamma.clone(), beta: beta.clone(), epsilon: 1e-5 };
                let normalised = by_batch(x.clone(), moments, affine, After::Nothing);
                let grads = normalised.output.clone().mul(weight.clone()).sum().backward();
                [
                    values(normalised.output.inner()),
                    values(normalised.mean.inner()),
                    values(normalised.variance.inner()),
                    values(x.grad(&grads).unwrap()),
                    values(gamma.grad(&grads).unwrap()),
                ]
            };
            let (given, found) = (run(Some(moments)), run(None));
            for (given, found) in given.iter().zip(&found) {
                let largest = found.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
                for (a, b) in given.iter().zip(found) {
                    assert!((a - b).abs() < 1e-4 * largest, "{shape:?} in {slice}: {a}, {b}");
                }
            }
        }
    }
}
