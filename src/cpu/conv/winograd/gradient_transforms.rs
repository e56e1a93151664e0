//! The transforms of F(3×3, 2×2), by which the weight gradient is computed, over whole vectors.
//!
//! As `y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` (`transforms`) is linear in the window g, its gradient from dy,
//! 2×2, is `dg = Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G`.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over constant ranges unroll, which keeps arrays of vectors in registers"
)]

use pulp::{Simd, WithSimd};

use crate::simd::dispatch;

/// `A dy Aᵀ` of neighbouring tiles, for the channels of a panel.
pub(super) struct Spread<'a> {
    /// `[2, 2·tiles, width]`; where the last line or the last columns are missing, zeros are taken.
    pub lines: [&'a [f32]; 2],
    /// Channels, whole vectors.
    pub width: usize,
    /// Tiles.
    pub tiles: usize,
    /// `[16, tiles, width]`, the first `apart` apart.
    pub target: &'a mut [f32],
    /// From one value of a tile to the next.
    pub apart: usize,
}

impl Spread<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { lines, width, tiles, target, apart } = self;
        let zero = simd.splat_f32s(0.0);
        for tile in 0..tiles {
            for at in (0..width).step_by(S::F32_LANES) {
                let value = |line: usize, column: usize| {
                    let place = (2 * tile + column) * width + at;
                    match lines[line].get(place..place + S::F32_LANES) {
                        Some(values) => S::as_simd_f32s(values).0[0],
                        None => zero,
                    }
                };
                let columns = [0, 1].map(|j| spread(simd, [value(0, j), value(1, j)]));
                for i in 0..4 {
                    let row = spread(simd, [columns[0][i], columns[1][i]]);
                    for (j, value) in row.into_iter().enumerate() {
                        let place = (i * 4 + j) * apart + tile * width + at;
                        let (to, _) = S::as_mut_simd_f32s(&mut target[place..][..S::F32_LANES]);
                        to[0] = value;
                    }
                }
            }
        }
    }
}

/// `A dy`.
#[inline(always)]
fn spread<S: Simd>(simd: S, y: [S::f32s; 2]) -> [S::f32s; 4] {
    [y[0], simd.add_f32s(y[0], y[1]), simd.sub_f32s(y[0], y[1]), simd.neg_f32s(y[1])]
}

/// `Gᵀ m G` of sums for the channels of a panel.
pub(super) struct Collect<'a> {
    /// `[16, width]`, the first `apart` apart.
    pub sums: &'a [f32],
    /// From one value of a tile to the next.
    pub apart: usize,
    /// Channels, whole vectors.
    pub width: usize,
    /// Which of the nine is at each place of the window.
    pub taps: [[usize; 3]; 3],
    /// `[9, width]`.
    pub window: &'a mut [f32],
}

impl Collect<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, apart, width, taps, window } = self;
        for at in (0..width).step_by(S::F32_LANES) {
            let mut rows = [[simd.splat_f32s(0.0); 3]; 4];
            for i in 0..4 {
                let sum = |j: usize| {
                    let place = (i * 4 + j) * apart + at;
                    S::as_simd_f32s(&sums[place..][..S::F32_LANES]).0[0]
                };
                rows[i] = collect(simd, [sum(0), sum(1), sum(2), sum(3)]);
            }
            for j in 0..3 {
                let m = [rows[0][j], rows[1][j], rows[2][j], rows[3][j]];
                for (i, value) in collect(simd, m).into_iter().enumerate() {
                    let place = taps[i][j] * width + at;
                    let (to, _) = S::as_mut_simd_f32s(&mut window[place..][..S::F32_LANES]);
                    to[0] = value;
                }
            }
        }
    }
}

/// `Gᵀ m`.
#[inline(always)]
fn collect<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(m[1], m[2]));
    let difference = simd.mul_f32s(half, simd.sub_f32s(m[1], m[2]));
    [simd.add_f32s(m[0], sum), difference, simd.add_f32s(sum, m[3])]
}
