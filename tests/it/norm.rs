//! Tests of the fused batch norm on every device against plain f64, and frozen in a network.

mod across;
mod relu;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use polyview::half::{to_float, to_half};
use polyview::kernels::{DeviceLimits, with_limits, with_stock};
use polyview::model::{Backbone, BackboneKind, Init, StageSet};
use polyview::norm::{Affine, After, Normalised, Running, blend, by_batch, by_running};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::conv::rounded;
use crate::common::network::gradients;
use crate::common::tensors::{uniform, values};

const EPSILON: f64 = 1e-5;

struct Case {
    shape: [usize; 5],
    x: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    residual: Option<Vec<f32>>,
    relu: bool,
    dy: Vec<f32>,
    /// Running mean and variance; without them, the batch's own statistics are used.
    running: Option<[Vec<f32>; 2]>,
}

/// y, mean, variance, dx, dγ, dβ and the residual's gradient; empty where there is none.
type Results<T> = [Vec<T>; 7];

const NAMES: [&str; 7] = ["y", "mean", "variance", "dx", "dγ", "dβ", "d residual"];

impl Case {
    fn random(rng: &mut ChaCha8Rng, round: usize) -> Self {
        let channels = match round % 10 {
            0 => rng.random_range(200..400),
            _ => rng.random_range(1..40),
        };
        let [t, h, w] = match round % 10 {
            0 => [1, 3, 4],
            // Planes that take more than one workgroup, and chunks that span two images.
            1 => [4, 30, rng.random_range(20..40)],
            2 => [1; 3],
            // Planes of thousands of elements that are no multiple of 4.
            3 => [3, 31, 2 * rng.random_range(10..30) + 1],
            _ => [3, 9, 12].map(|most| rng.random_range(1..most)),
        };
        let shape = [rng.random_range(1..5), channels, t, h, w];
        let count = shape.iter().product();
        // Means far from zero test the precision of the variance.
        let centre = if round % 4 == 3 { 30.0 } else { 0.3 };
        let relu = !round.is_multiple_of(3);
        let residual = (relu && round.is_multiple_of(2)).then(|| uniform(rng, count, 1.0, 0.0));
        let running = (round % 5 == 4)
            .then(|| [uniform(rng, channels, 0.5, centre), uniform(rng, channels, 0.5, 1.0)]);
        Self {
            shape,
            x: uniform(rng, count, 1.5, centre),
            gamma: uniform(rng, channels, 0.5, 1.0),
            beta: uniform(rng, channels, 0.5, 0.0),
            residual,
            relu,
            dy: uniform(rng, count, 1.0, 0.1),
            running,
        }
    }

    /// Rounds x, the residual and dy to values that f16 can represent.
    fn in_half(self) -> Self {
        let residual = self.residual.as_deref().map(rounded);
        Self { x: rounded(&self.x), dy: rounded(&self.dy), residual, ..self }
    }

    /// Returns the results of the fused batch norm, with activations in half precision or in f32.
    fn ours(&self, device: &Device, half: bool) -> Results<f32> {
        self.by(device, half, &|x, affine, after| (by_batch(x, None, affine, after), ())).0
    }

    /// Like [`Self::ours`], but normalises with `by_batch`, which may also return additional
    /// results.
    fn by<T: Default>(
        &self,
        device: &Device,
        half: bool,
        by_batch: &dyn Fn(Tensor<5>, Affine, After) -> (Normalised, T),
    ) -> (Results<f32>, T) {
        let mut more = T::default();
        let stored = |x: &Tensor<5>| if half { to_half(x.clone()) } else { x.clone() };
        let whole = |values: &[f32]| {
            Tensor::<5>::from_data(TensorData::new(values.to_vec(), self.shape), device)
        };
        let channel = |values: &[f32]| {
            Tensor::<1>::from_data(TensorData::new(values.to_vec(), [self.shape[1]]), device)
        };
        let x = whole(&self.x).require_grad();
        let trains = self.running.is_none();
        let [gamma, beta] = [&self.gamma, &self.beta]
            .map(|values| if trains { channel(values).require_grad() } else { channel(values) });
        let residual = self.residual.as_ref().map(|values| whole(values).require_grad());
        let after = match (&residual, self.relu) {
            (Some(residual), _) => After::AddRelu(stored(residual)),
            (None, true) => After::Relu,
            (None, false) => After::Nothing,
        };
        let affine = Affine { gamma: gamma.clone(), beta: beta.clone(), epsilon: EPSILON };
        let (y, mean, variance) = match &self.running {
            None => {
                let result;
                (result, more) = by_batch(stored(&x), affine, after);
                (result.output, result.mean, result.variance)
            }
            Some([mean, variance]) => {
                let (mean, variance) = (channel(mean), channel(variance));
                let y = by_running(stored(&x), affine, mean.clone(), variance.clone(), after);
                (y, mean, variance)
            }
        };
        assert_eq!(y.dtype(), stored(&x).dtype());
        let y = to_float(y);
        let grads = y.clone().mul(whole(&self.dy)).sum().backward();
        let of = |tensor: &Tensor<1>| tensor.grad(&grads).map(values).unwrap_or_default();
        let residual = residual.map(|residual| values(residual.grad(&grads).unwrap()));
        let results = [
            values(y.inner()),
            values(mean.inner()),
            values(variance.inner()),
            values(x.grad(&grads).unwrap()),
            of(&gamma),
            of(&beta),
            residual.unwrap_or_default(),
        ];
        (results, more)
    }

    /// Compares results with plain f64.
    fn check(&self, got: &Results<f32>, round: usize, half: bool) {
        let [n, _, t, h, w] = self.shape;
        // A channel of few values may have almost no variance, which divides rounding errors by √ε.
        let few = self.running.is_none() && n * t * h * w < 16;
        let far = round % 4 == 3;
        let tolerance = if far { 1e-4 } else { 2e-5 } * if few { 300.0 } else { 1.0 };
        for ((&name, got), want) in NAMES.iter().zip(got).zip(&self.exact(&got[0])) {
            assert_eq!(got.len(), want.len(), "{name}");
            let largest = want.iter().fold(if few { 1.0f64 } else { 1e-30 }, |m, v| m.max(v.abs()));
            // Only these are rounded, to either neighbour.
            let rounded = half && ["y", "dx", "d residual"].contains(&name);
            let tolerance = if rounded { tolerance + 1e-3 } else { tolerance };
            for (&got, &want) in got.iter().zip(want) {
                let error = (f64::from(got) - want).abs() / largest;
                assert!(error <= tolerance, "{name} of {:?}: {got} instead of {want}", self.shape);
            }
        }
    }

    /// Computes the results in f64. The ReLU's mask is taken from `y`, since a value next to zero
    /// may fall on either side.
    fn exact(&self, y: &[f32]) -> Results<f64> {
        let [batch, channels, t, h, w] = self.shape;
        let plane = t * h * w;
        let count = (batch * plane) as f64;
        let mut out: Results<f64> = Default::default();
        for whole in [0, 3] {
            out[whole] = vec![0.0; self.x.len()];
        }
        for channel in [1, 2, 4, 5] {
            out[channel] = vec![0.0; channels];
        }
        let g = |i: usize| if self.relu && y[i] <= 0.0 { 0.0 } else { f64::from(self.dy[i]) };
        for c in 0..channels {
            let places = (0..batch).flat_map(|n| {
                let start = (n * channels + c) * plane;
                start..start + plane
            });
            let x = |i: usize| f64::from(self.x[i]);
            let (mean, variance) = match &self.running {
                Some([mean, variance]) => (f64::from(mean[c]), f64::from(variance[c])),
                None => {
                    let mean = places.clone().map(x).sum::<f64>() / count;
                    let squares = places.clone().map(|i| (x(i) - mean).powi(2));
                    (mean, squares.sum::<f64>() / count)
                }
            };
            let rstd = 1.0 / (variance + EPSILON).sqrt();
            let gamma = f64::from(self.gamma[c]);
            let hat = |i: usize| (x(i) - mean) * rstd;
            let sum: f64 = places.clone().map(g).sum();
            let product: f64 = places.clone().map(|i| g(i) * hat(i)).sum();
            for i in places {
                let added = self.residual.as_ref().map_or(0.0, |residual| f64::from(residual[i]));
                let y = hat(i) * gamma + f64::from(self.beta[c]) + added;
                out[0][i] = if self.relu { y.max(0.0) } else { y };
                let of_batch = (sum + hat(i) * product) / count;
                let pull = if self.running.is_none() { of_batch } else { 0.0 };
                out[3][i] = gamma * rstd * (g(i) - pull);
            }
            (out[1][c], out[2][c], out[4][c], out[5][c]) = (mean, variance, product, sum);
        }
        if self.running.is_some() {
            out[4].clear();
            out[5].clear();
        }
        if self.residual.is_some() {
            out[6] = (0..self.x.len()).map(g).collect();
        }
        out
    }
}

fn agrees(device: &Device, half: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for round in 0..120 {
        let case = Case::random(&mut rng, round);
        let case = if half { case.in_half() } else { case };
        let autodiff = device.clone().autodiff();
        // With gradient checkpointing, recomputation must find the tensors that it needs.
        let autodiff = if round % 2 == 0 { autodiff } else { autodiff.gradient_checkpointing() };
        let got = case.ours(&autodiff, half);
        case.check(&got, round, half);
        let again = case.ours(&autodiff, half);
        let bits = |values: &Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(got.each_ref().map(bits), again.each_ref().map(bits), "{:?}", case.shape);
    }
}

#[test]
fn norm_agrees_with_f64_on_cpu() {
    agrees(&Device::flex(), false);
}

#[test]
fn norm_agrees_with_f64_on_wgpu() {
    let Some(device) = adapter::device() else { return };
    agrees(&device, false);
}

#[test]
fn norm_in_half_precision_agrees_with_f64_on_wgpu() {
    let Some(device) = adapter::device() else { return };
    agrees(&device, true);
    with_limits(|limits| DeviceLimits { shader_f16: false, ..limits }, || agrees(&device, true));
}

/// Checks that trainable stages below and between frozen ones get the same gradients as with Burn's
/// own operations.
#[test]
fn norm_frozen_lets_gradients_through() {
    for device in [Some(Device::flex()), adapter::device()].into_iter().flatten() {
        let device = device.autodiff();
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let shape = [2, 3, 4, 16, 16];
        let clips = uniform(&mut rng, shape.iter().product(), 1.0, 0.0);
        let clips = Tensor::<5>::from_data(TensorData::new(clips, shape), &device);
        for stages in [StageSet::NONE.with(0), StageSet::NONE.with(2), StageSet::last(1)] {
            let net = Backbone::new(&mut Init::new(5, &device), BackboneKind::R3dTiny);
            let net = net.with_trainable(stages);
            let run = || {
                let loss = net.forward(clips.clone()).square().sum();
                gradients(&net, &GradientsParams::from_grads(loss.backward(), &net))
            };
            let (ours, theirs) = (run(), with_stock(run));
            assert!(!ours.is_empty());
            assert_eq!(ours.len(), theirs.len());
            for ((name, ours), (same, theirs)) in ours.iter().zip(&theirs) {
                assert_eq!(name, same);
                let scale = theirs.iter().fold(1e-12f32, |max, v| max.max(v.abs()));
                for (a, b) in ours.iter().zip(theirs) {
                    assert!((a - b).abs() <= 1e-3 * scale, "{name}: {a}, stock {b}");
                }
            }
        }
    }
}

/// Updates many layers of different sizes, which takes more than one launch.
#[test]
fn norm_updates_running_statistics() {
    const CHANNELS: [usize; 12] = [1, 5, 64, 300, 45, 144, 63, 65, 2, 512, 7, 64];
    const MOMENTUM: f64 = 0.1;
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let devices = [Some(Device::flex()), adapter::device()];
    for device in devices.into_iter().flatten() {
        let unbiased = |layer: usize| 1.25 + layer as f64 / 8.0;
        // Running mean and variance, then the batch's.
        let given = CHANNELS.map(|channels| {
            [[2.0, 0.5], [0.5, 1.0], [2.0, 0.5], [0.5, 1.0]]
                .map(|[spread, centre]| uniform(&mut rng, channels, spread, centre))
        });
        let run = |device: &Device, count: usize| {
            let layer = |(index, layer): (usize, &[Vec<f32>; 4])| {
                let [a, b, c, d] = layer.each_ref().map(|values| {
                    let data = TensorData::new(values.clone(), [values.len()]);
                    Tensor::<1>::from_data(data, device)
                });
                Running { running: [a, b], batch: [c, d], unbiased: unbiased(index) }
            };
            let next = blend(given[..count].iter().enumerate().map(layer).collect(), MOMENTUM);
            // The results must work as any tensor: as operands of the next blend, and of Burn's
            // operations.
            let again = next.iter().cloned().enumerate().map(|(index, next)| Running {
                running: next.each_ref().map(|tensor| tensor.clone()),
                batch: next.map(|tensor| tensor.mul_scalar(1.0)),
                unbiased: unbiased(index),
            });
            let again = blend(again.collect(), MOMENTUM);
            [next, again].map(|layers| layers.into_iter().map(|both| both.map(values)).collect())
        };
        let step = |old: &[f64], new: &[f64], factor: f64| -> Vec<f64> {
            let pairs = old.iter().zip(new);
            pairs.map(|(o, n)| (1.0 - MOMENTUM) * o + MOMENTUM * factor * n).collect()
        };
        let close = |got: &[f32], want: &[f64]| {
            got.len() == want.len()
                && got.iter().zip(want).all(|(&g, w)| (f64::from(g) - w).abs() < 2e-6)
        };
        for count in [0, 1, 7, CHANNELS.len()] {
            let autodiff = device.clone().autodiff();
            // For each variant, the values after the first update, then those after the second.
            let all: [[Vec<[Vec<f32>; 2]>; 2]; 3] =
                [run(&device, count), run(&autodiff, count), with_stock(|| run(&device, count))];
            for [next, again] in all {
                assert_eq!([next.len(), again.len()], [count; 2]);
                for (index, layer) in given[..count].iter().enumerate() {
                    let exact = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect();
                    let [mean, variance, batch_mean, batch_variance]: [Vec<f64>; 4] =
                        layer.each_ref().map(|values| exact(values));
                    let mean = step(&mean, &batch_mean, 1.0);
                    let variance = step(&variance, &batch_variance, unbiased(index));
                    assert!(close(&next[index][0], &mean), "mean of layer {index}");
                    assert!(close(&next[index][1], &variance), "variance of layer {index}");
                    let variance = step(&variance, &variance, unbiased(index));
                    assert!(close(&again[index][0], &mean), "mean of layer {index}, again");
                    assert!(close(&again[index][1], &variance), "variance of layer {index}, again");
                }
            }
        }
    }
}

/// Checks that the gradient passes exactly where the output is positive, whatever the mask is
/// computed from, including where the ReLU's input is 0.
#[test]
fn norm_mask_matches_the_output() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    for device in [Some(Device::flex()), adapter::device()].into_iter().flatten() {
        let device = device.autodiff();
        let shapes = [
            [2, 3, 1, 1, 1],
            [3, 5, 2, 3, 7],
            [2, 4, 4, 16, 16],
            [1, 2, 3, 31, 41],
            [2, 70, 2, 7, 7],
        ];
        for (shape, residual) in
            shapes.into_iter().flat_map(|shape| [(shape, false), (shape, true)])
        {
            let [n, channels, t, h, w] = shape;
            let (count, plane) = (shape.iter().product(), t * h * w);
            // Few distinct values, symmetric about 0 in each channel, so that many hit the mean.
            let x = uniform(&mut rng, count, 2.0, 0.0).into_iter().map(f32::round);
            let mut x: Vec<f32> = x.collect();
            for at in 0..channels * plane {
                if n % 2 == 0 {
                    x[at + channels * plane] = -x[at];
                }
            }
            let whole = |values: Vec<f32>| {
                Tensor::<5>::from_data(TensorData::new(values, shape), &device).require_grad()
            };
            let channel = |value: f32| Tensor::<1>::full([channels], value, &device).require_grad();
            let x = whole(x);
            let other =
                whole(uniform(&mut rng, count, 1.0, 0.0).into_iter().map(f32::round).collect());
            let after = if residual { After::AddRelu(other.clone()) } else { After::Relu };
            // Where γ is 0 the normalised value is β, so that with β = 0 it is exactly 0.
            for (gamma, beta) in [(1.0, 0.0), (-0.7, 0.25), (0.0, 0.0), (0.0, 0.5)] {
                let beta = channel(beta);
                let affine = Affine { gamma: channel(gamma), beta: beta.clone(), epsilon: EPSILON };
                let y = by_batch(x.clone(), None, affine, after.clone()).output;
                // dy differs between elements, so that a sum shows which ones it contains.
                let dy: Vec<f32> = uniform(&mut rng, count, 1.0, 3.0);
                let grads = y.clone().mul(whole(dy.clone())).sum().backward();
                let open: Vec<f64> = values(y.inner())
                    .iter()
                    .zip(&dy)
                    .map(|(&y, &dy)| if y > 0.0 { f64::from(dy) } else { 0.0 })
                    .collect();
                if residual {
                    let got = values(other.grad(&grads).unwrap());
                    let same = got.iter().zip(&open).all(|(&got, &want)| f64::from(got) == want);
                    assert!(same, "{shape:?}, gamma {gamma}");
                }
                let got = values(beta.grad(&grads).unwrap());
                for (c, &got) in got.iter().enumerate() {
                    let of = |image: usize| (image * channels + c) * plane;
                    let want: f64 =
                        (0..n).flat_map(|image| &open[of(image)..of(image) + plane]).sum();
                    // A value on the wrong side would change the sum by at least 2.
                    let error = (f64::from(got) - want).abs();
                    assert!(error < 0.1 + 1e-5 * want, "{shape:?}: {got} instead of {want}");
                }
            }
        }
    }
}
