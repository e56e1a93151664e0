//! The transforms of F(3×3, 2×2) for the weight gradient, over whole vectors.
//!
//! Since `y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` (see `transforms`) is linear in the window g, its gradient
//! from a dy of 2×2 is `dg = Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G`.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over constant ranges unroll, which keeps arrays of vectors in registers"
)]

use pulp::{Simd, WithSimd};

use crate::simd::dispatch;

/// Computes `A dy Aᵀ` of consecutive tiles, for the channels of a panel.
pub(super) struct GradientTransform<'a> {
    /// dy `[2, 2·tiles, width]`; a missing last line and missing last columns count as zeros.
    pub lines: [&'a [f32]; 2],
    /// Number of channels, whole vectors.
    pub width: usize,
    /// Number of tiles.
    pub tiles: usize,
    /// Result `[16, tiles, width]`, where the first dimension has the stride `value_stride`.
    pub target: &'a mut [f32],
    /// Distance between the 16 values of a tile.
    pub value_stride: usize,
}

impl GradientTransform<'_> {
    /// Runs the transform with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for GradientTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { lines, width, tiles, target, value_stride } = self;
        let zero = simd.splat_f32s(0.0);
        for tile in 0..tiles {
            for at in (0..width).step_by(S::F32_LANES) {
                let value = |line: usize, column: usize| {
                    let start = (2 * tile + column) * width + at;
                    match lines[line].get(start..start + S::F32_LANES) {
                        Some(values) => S::as_simd_f32s(values).0[0],
                        None => zero,
                    }
                };
                let columns = [0, 1].map(|j| gradient_line(simd, [value(0, j), value(1, j)]));
                for i in 0..4 {
                    let row = gradient_line(simd, [columns[0][i], columns[1][i]]);
                    for (j, value) in row.into_iter().enumerate() {
                        let start = (i * 4 + j) * value_stride + tile * width + at;
                        let (to, _) = S::as_mut_simd_f32s(&mut target[start..][..S::F32_LANES]);
                        to[0] = value;
                    }
                }
            }
        }
    }
}

/// Returns `A dy`.
#[inline(always)]
fn gradient_line<S: Simd>(simd: S, y: [S::f32s; 2]) -> [S::f32s; 4] {
    [y[0], simd.add_f32s(y[0], y[1]), simd.sub_f32s(y[0], y[1]), simd.neg_f32s(y[1])]
}

/// Computes `Gᵀ m G` of sums m, for the channels of a panel.
pub(super) struct WindowGradient<'a> {
    /// Sums `[16, width]`, where the first dimension has the stride `value_stride`.
    pub sums: &'a [f32],
    /// Distance between the 16 values of a tile.
    pub value_stride: usize,
    /// Number of channels, whole vectors.
    pub width: usize,
    /// Index of the tap at each position of the window.
    pub taps: [[usize; 3]; 3],
    /// Result `[9, width]`.
    pub window: &'a mut [f32],
}

impl WindowGradient<'_> {
    /// Runs the transform with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for WindowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, value_stride, width, taps, window } = self;
        for at in (0..width).step_by(S::F32_LANES) {
            let mut rows = [[simd.splat_f32s(0.0); 3]; 4];
            for i in 0..4 {
                let sum = |j: usize| {
                    let start = (i * 4 + j) * value_stride + at;
                    S::as_simd_f32s(&sums[start..][..S::F32_LANES]).0[0]
                };
                rows[i] = window_line(simd, [sum(0), sum(1), sum(2), sum(3)]);
            }
            for j in 0..3 {
                let m = [rows[0][j], rows[1][j], rows[2][j], rows[3][j]];
                for (i, value) in window_line(simd, m).into_iter().enumerate() {
                    let start = taps[i][j] * width + at;
                    let (to, _) = S::as_mut_simd_f32s(&mut window[start..][..S::F32_LANES]);
                    to[0] = value;
                }
            }
        }
    }
}

/// Returns `Gᵀ m`.
#[inline(always)]
fn window_line<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(m[1], m[2]));
    let difference = simd.mul_f32s(half, simd.sub_f32s(m[1], m[2]));
    [simd.add_f32s(m[0], sum), difference, simd.add_f32s(sum, m[3])]
}
