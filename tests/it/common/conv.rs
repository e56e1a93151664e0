//! Convolutions with reference results in f64.

use burn::tensor::{Device, f16};
use polyview::conv::testing::web_plan;
use polyview::conv::{ConvPass, ConvShape, conv3d};
use polyview::half::{to_float, to_half};
use polyview::kernels::limits;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::tensors::{tensor, uniform, values};

/// A convolution that no shader supports.
pub const UNSERVED: ConvShape = ConvShape {
    batch: 1,
    in_channels: 1,
    out_channels: 2,
    input: [1, 1, 40],
    kernel: [1, 1, 32],
    stride: [1; 3],
    padding: [0; 3],
};

/// Asserts that the shaders lack a pass of [`UNSERVED`] on this device, so that Burn computes all of them.
pub fn assert_unserved(device: &Device) {
    let limits = limits(device).expect("an adapter has limits");
    let is_served = |pass| web_plan(&limits, pass, &UNSERVED).is_ok();
    assert!(!ConvPass::ALL.into_iter().all(is_served), "the shaders support it");
}

/// Draws x, w and dy.
fn operands(shape: &ConvShape, rng: &mut ChaCha8Rng) -> [Vec<f32>; 3] {
    [shape.input_len(), shape.weight_len(), shape.output_len()]
        .map(|length| uniform(rng, length, 1.0, 0.0))
}

/// A convolution's operands and its three results in f64.
pub struct Case {
    pub shape: ConvShape,
    pub x: Vec<f32>,
    pub w: Vec<f32>,
    pub dy: Vec<f32>,
    pub exact: [Vec<f64>; 3],
}

impl Case {
    pub fn new(shape: ConvShape, rng: &mut ChaCha8Rng) -> Self {
        Self::of(shape, operands(&shape, rng))
    }

    /// Creates a case whose x and dy are representable in f16.
    pub fn in_half(shape: ConvShape, rng: &mut ChaCha8Rng) -> Self {
        let [x, w, dy] = operands(&shape, rng);
        Self::of(shape, [rounded(&x), w, rounded(&dy)])
    }

    fn of(shape: ConvShape, [x, w, dy]: [Vec<f32>; 3]) -> Self {
        let mut exact = [vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]];
        each(&shape, |i, o, k| {
            exact[0][o] += f64::from(x[i]) * f64::from(w[k]);
            exact[1][i] += f64::from(dy[o]) * f64::from(w[k]);
            exact[2][k] += f64::from(dy[o]) * f64::from(x[i]);
        });
        Self { shape, x, w, dy, exact }
    }

    /// Computes y, dx and dw through the public operation.
    pub fn ours(&self, device: &Device) -> [Vec<f32>; 3] {
        self.ours_stored(device, false)
    }

    /// Like [`Self::ours`], with activations in half precision or in f32.
    pub fn ours_stored(&self, device: &Device, half: bool) -> [Vec<f32>; 3] {
        let ConvShape { stride, padding, .. } = self.shape;
        let x = tensor(&self.x, self.shape.x(), device).require_grad();
        let w = tensor(&self.w, self.shape.w(), device).require_grad();
        let stored = if half { to_half(x.clone()) } else { x.clone() };
        let y = conv3d(stored.clone(), w.clone(), stride, padding);
        assert_eq!(y.dtype(), stored.dtype());
        let y = to_float(y);
        let dy = tensor(&self.dy, self.shape.y(), device);
        let grads = y.clone().mul(dy).sum().backward();
        [y.inner(), x.grad(&grads).unwrap(), w.grad(&grads).unwrap()].map(values)
    }

    /// Returns the largest error relative to the pass's largest value, divided by the bound
    /// 1e-5·√K.
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

/// Checks `moments`, mean and sum of squared deviations of each `slice` values of each channel, against
/// those of `y`, which is in half precision.
#[track_caller]
pub fn check_statistics(shape: &ConvShape, y: &[f32], moments: &[f32], slice: usize) {
    let plane = shape.output().iter().product::<usize>();
    let largest = y.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
    let parts = (shape.batch * plane).div_ceil(slice);
    assert_eq!(moments.len(), 2 * parts * shape.out_channels);
    for (k, parts) in moments.chunks(2 * parts).enumerate() {
        let images = (0..shape.batch).map(|image| (image * shape.out_channels + k) * plane);
        let channel: Vec<f32> =
            images.flat_map(|start| y[start..start + plane].iter().copied()).collect();
        for (part, found) in channel.chunks(slice).zip(parts.chunks(2)) {
            let mean = part.iter().sum::<f32>() / part.len() as f32;
            let squares: f32 = part.iter().map(|v| (v - mean).powi(2)).sum();
            assert!((found[0] - mean).abs() <= 2e-3 * largest, "{shape:?}: {found:?}");
            let room = 4e-3 * largest * largest * part.len() as f32;
            assert!((found[1] - squares).abs() <= room, "{shape:?}: {found:?}, {squares}");
        }
    }
}

/// Rounds the values to f16.
pub fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| f16::from_f32(value).to_f32()).collect()
}

/// Calls `visit` with the x, y and w indices of every multiply-add of the convolution.
pub fn each(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let [t, h, w] = shape.input;
    let [ot, oh, ow] = shape.output();
    let [kt, kh, kw] = shape.kernel;
    let near = |o: usize, axis: usize, k: usize| {
        let position = (o * shape.stride[axis] + k).checked_sub(shape.padding[axis]);
        position.filter(|&position| position < shape.input[axis])
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

/// Draws a convolution of random sizes with at most `limit` multiply-adds.
pub fn random_shape(rng: &mut ChaCha8Rng, limit: usize) -> ConvShape {
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
        if shape.is_sound() && shape.multiply_adds() <= limit {
            return shape;
        }
    }
}

/// Draws shapes whose planes and rows allow loads of four values in some pass, or just fail to.
pub fn wide_shape(rng: &mut ChaCha8Rng) -> ConvShape {
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
