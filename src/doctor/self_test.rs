//! A small computation on a device: a convolution with its gradients, compared with f64, and
//! training steps.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::bench::{BenchConfig, BenchError};
use crate::conv::{ConvShape, conv3d};
use crate::device::Compute;
use crate::half::{Precision, stored, to_float};
use crate::model::BackboneKind;

/// The result of a device's self-test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SelfTest {
    /// Largest difference of y, dx and dw from f64, relative to the largest value of each.
    pub conv_error: f64,
    /// The same with activations in half precision, if the device can store them that way.
    pub half_error: Option<f64>,
    /// Whether both are within the precision of the device's arithmetic.
    pub sound: bool,
    /// Median time of a training step after warm-up, milliseconds.
    pub step_ms: f64,
    /// Description of the step.
    pub step: String,
}

/// Why a self-test gives no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfTestError {
    /// The device failed or returned no values.
    #[error("the device failed: {0}")]
    Device(String),
    /// A training step failed.
    #[error(transparent)]
    Step(#[from] BenchError),
}

/// Tolerance of f32 with a different order of summation.
const F32: f64 = 1e-5;
/// Tolerance if operands are rounded to TF32 (CUDA's matrix units).
const TF32: f64 = 5e-3;
/// Tolerance where x and y are rounded to f16.
const F16: f64 = 2e-3;

impl SelfTest {
    /// Runs the test on an opened device; this takes some seconds on a slow one.
    ///
    /// # Errors
    /// If the device fails. Wrong values are not an error but a result that is not `sound`.
    pub(crate) fn run(compute: &Compute) -> Result<Self, SelfTestError> {
        let half = Precision::F16.on(compute).0;
        let half_error = half.then(|| conv_error(compute, true)).transpose()?;
        let conv_error = conv_error(compute, false)?;
        let bound = if compute.info.api == "cuda" { TF32 } else { F32 };
        let config = BenchConfig {
            backbone: BackboneKind::R3dTiny,
            clips: 2,
            size: [8, 56, 56],
            steps: 3,
            stock: false,
            half: false,
        };
        let times = config.steps(&compute.device, || ())?;
        let [n, _, t, h, w] = config.shape();
        Ok(Self {
            conv_error,
            half_error,
            // False for NaN too.
            sound: conv_error <= bound && half_error.is_none_or(|error| error <= F16),
            step_ms: times.step_ms,
            step: format!("{} on {n} clips of {t}×{h}×{w}", config.backbone),
        })
    }
}

impl SelfTest {
    /// Returns the errors as text.
    pub(crate) fn errors(&self) -> String {
        let mut text = format!("relative error {:.1e}", self.conv_error);
        if let Some(error) = self.half_error {
            text.push_str(&format!(", in f16 {error:.1e}"));
        }
        text
    }
}

fn conv_error(compute: &Compute, half: bool) -> Result<f64, SelfTestError> {
    let shape = ConvShape::new([2, 12, 4, 13, 11], [20, 12, 3, 3, 3], [1, 2, 2], [1, 1, 1])
        .expect("the window fits into the padded input");
    let x = numbers(shape.input_len(), 1);
    let w = numbers(shape.weight_len(), 2);
    let dy = numbers(shape.output_len(), 3);
    let expected = reference(&shape, &x, &w, &dy);

    let device = compute.device.clone().autodiff();
    let tensor = |values: &[f32], size: [usize; 5]| {
        Tensor::<5>::from_data(TensorData::new(values.to_vec(), size), &device)
    };
    let (tx, tw) = (tensor(&x, shape.x()).require_grad(), tensor(&w, shape.w()).require_grad());
    let y = conv3d(stored(tx.clone(), half), tw.clone(), shape.stride, shape.padding);
    let y = to_float(y);
    let grads = y.clone().mul(tensor(&dy, shape.y())).sum().backward();
    let none = || SelfTestError::Device("a gradient is missing".to_owned());
    let found = [y.inner(), tx.grad(&grads).ok_or_else(none)?, tw.grad(&grads).ok_or_else(none)?];
    let mut worst = 0.0_f64;
    for (found, expected) in found.into_iter().zip(expected) {
        let found = found.try_into_vec_as::<f32>();
        let found = found.map_err(|error| SelfTestError::Device(error.to_string()))?;
        let largest = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs() / largest;
            // `max` would ignore NaN.
            if error.is_nan() {
                return Ok(f64::NAN);
            }
            worst = worst.max(error);
        }
    }
    Ok(worst)
}

/// Returns pseudo-random numbers between −1 and 1 (a linear congruential generator, Knuth's MMIX).
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Computes y, dx and dw by definition, in f64.
fn reference(shape: &ConvShape, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f64>; 3] {
    let [n, c, t, h, wide] = shape.x();
    let [_, k, to, ho, wo] = shape.y();
    let [kt, kh, kw] = shape.kernel;
    let mut y = vec![0.0; shape.output_len()];
    let mut dx = vec![0.0; shape.input_len()];
    let mut dw = vec![0.0; shape.weight_len()];
    let inside = |axis: usize, out: usize, tap: usize| {
        let index = (out * shape.stride[axis] + tap).checked_sub(shape.padding[axis])?;
        (index < shape.input[axis]).then_some(index)
    };
    for out in 0..n * k * to * ho * wo {
        let (xo, rest) = (out % wo, out / wo);
        let (yo, rest) = (rest % ho, rest / ho);
        let (zo, rest) = (rest % to, rest / to);
        let (kernel, clip) = (rest % k, rest / k);
        for tap in 0..c * kt * kh * kw {
            let (i, rest) = (tap % kw, tap / kw);
            let (j, rest) = (rest % kh, rest / kh);
            let (l, channel) = (rest % kt, rest / kt);
            let at = (inside(0, zo, l), inside(1, yo, j), inside(2, xo, i));
            let (Some(zi), Some(yi), Some(xi)) = at else { continue };
            let from = (((clip * c + channel) * t + zi) * h + yi) * wide + xi;
            let weight = kernel * c * kt * kh * kw + tap;
            let (value, factor, slope) =
                (f64::from(x[from]), f64::from(w[weight]), f64::from(dy[out]));
            y[out] += value * factor;
            dx[from] += slope * factor;
            dw[weight] += slope * value;
        }
    }
    [y, dx, dw]
}
