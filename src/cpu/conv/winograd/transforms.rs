//! The transforms of F(2×2, 3×3), and of F(3×3, 2×2) for the gradient of the windows, over whole
//! vectors.
//!
//! `y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` for a window g of 3×3 and a tile d of 4×4, with
//! `Bᵀ = [1 0 −1 0; 0 1 1 0; 0 −1 1 0; 0 1 0 −1]`, `G = [1 0 0; ½ ½ ½; ½ −½ ½; 0 0 1]` and
//! `Aᵀ = [1 1 1 0; 0 1 −1 −1]`: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2015, section 4.1. As y is linear in g, its gradient from dy, 2×2, is
//! `dg = Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G`.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over constant ranges unroll, which keeps arrays of vectors in registers"
)]

use pulp::{Simd, WithSimd};

use crate::simd::dispatch;

/// Values of a tile.
pub(super) const TILE: usize = 16;

/// `Bᵀ d B` of neighbouring tiles in a row of tiles.
pub(super) struct Tiles<'a> {
    /// Four lines of the source from the first tile's first column on, each the values in even and
    /// then those in odd columns, `pitch` apart; one more than there are tiles, and a vector.
    pub lines: &'a [f32],
    /// Distance between them.
    pub pitch: usize,
    /// Tiles.
    pub count: usize,
    /// Working memory for as much as `lines`.
    pub room: &'a mut [f32],
    /// Place of the first tile's first value. Whole vectors are written.
    pub target: &'a mut [f32],
    /// From one value of a tile to the next.
    pub apart: usize,
}

impl Tiles<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { lines, pitch, count, room, target, apart } = self;
        let lanes = S::F32_LANES;
        // Down the columns.
        for half in 0..2 {
            for at in (0..count + 1).step_by(lanes) {
                let place = half * pitch + at;
                let line = |i: usize| {
                    let (line, _) = S::as_simd_f32s(&lines[2 * i * pitch + place..][..lanes]);
                    line[0]
                };
                let d = [line(0), line(1), line(2), line(3)];
                for (i, value) in tile(simd, d).into_iter().enumerate() {
                    let (to, _) = S::as_mut_simd_f32s(&mut room[2 * i * pitch + place..][..lanes]);
                    to[0] = value;
                }
            }
        }
        // Along the rows.
        for i in 0..4 {
            for at in (0..count).step_by(lanes) {
                let value = |half: usize, on: usize| {
                    let place = (2 * i + half) * pitch + at + on;
                    let (line, _) = S::as_simd_f32s(&room[place..][..lanes]);
                    line[0]
                };
                let d = [value(0, 0), value(1, 0), value(0, 1), value(1, 1)];
                for (j, value) in tile(simd, d).into_iter().enumerate() {
                    let place = (i * 4 + j) * apart + at;
                    let (to, _) = S::as_mut_simd_f32s(&mut target[place..][..lanes]);
                    to[0] = value;
                }
            }
        }
    }
}

/// `Bᵀ d`.
#[inline(always)]
fn tile<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [
        simd.sub_f32s(d[0], d[2]),
        simd.add_f32s(d[1], d[2]),
        simd.sub_f32s(d[2], d[1]),
        simd.sub_f32s(d[1], d[3]),
    ]
}

/// `Aᵀ m A` of many tiles.
pub(super) struct Outputs<'a> {
    /// Sums, value after value of a tile.
    pub sums: &'a [f32],
    /// From one value of a tile to the next.
    pub apart: usize,
    /// The four outputs of a tile, each a line of `columns`.
    pub outputs: &'a mut [f32],
    /// Tiles, whole vectors.
    pub columns: usize,
}

impl Outputs<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, apart, outputs, columns } = self;
        let lanes = S::F32_LANES;
        for at in (0..columns).step_by(lanes) {
            let mut rows = [[simd.splat_f32s(0.0); 2]; 4];
            for i in 0..4 {
                let sum = |j: usize| {
                    let (sum, _) = S::as_simd_f32s(&sums[(i * 4 + j) * apart + at..][..lanes]);
                    sum[0]
                };
                rows[i] = output(simd, [sum(0), sum(1), sum(2), sum(3)]);
            }
            for j in 0..2 {
                let m = [rows[0][j], rows[1][j], rows[2][j], rows[3][j]];
                for (i, value) in output(simd, m).into_iter().enumerate() {
                    let place = (i * 2 + j) * columns + at;
                    let (to, _) = S::as_mut_simd_f32s(&mut outputs[place..][..lanes]);
                    to[0] = value;
                }
            }
        }
    }
}

/// `Aᵀ m`.
#[inline(always)]
fn output<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(m[0], m[1]), m[2]), simd.sub_f32s(simd.sub_f32s(m[1], m[2]), m[3])]
}

/// `G g Gᵀ` of windows whose taps each hold the weights of some rows.
pub(super) struct Windows<'a> {
    /// `[windows, 9, rows]`.
    pub weights: &'a [f32],
    /// Which of the nine is at each place of the window.
    pub taps: [[usize; 3]; 3],
    /// Rows, as [`crate::conv::kernel::rows_at_once`] says.
    pub rows: usize,
    /// `[16, windows, rows]`, the first `apart` apart.
    pub target: &'a mut [f32],
    /// From one value of a transformed window to the next.
    pub apart: usize,
}

impl Windows<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }

    #[inline(always)]
    fn rows<const ROWS: usize>(self) {
        let Self { weights, taps, target, apart, .. } = self;
        let windows = weights.as_chunks::<ROWS>().0.as_chunks::<9>().0;
        for (index, window) in windows.iter().enumerate() {
            let mut down = [[[0.0; ROWS]; 3]; 4];
            for j in 0..3 {
                let column =
                    window_line([window[taps[0][j]], window[taps[1][j]], window[taps[2][j]]]);
                for i in 0..4 {
                    down[i][j] = column[i];
                }
            }
            for i in 0..4 {
                for (j, values) in window_line(down[i]).into_iter().enumerate() {
                    let place = (i * 4 + j) * apart + index * ROWS;
                    target[place..][..ROWS].copy_from_slice(&values);
                }
            }
        }
    }
}

impl WithSimd for Windows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.rows {
            8 => self.rows::<8>(),
            _ => self.rows::<6>(),
        }
    }
}

/// `G g`.
#[inline(always)]
fn window_line<const ROWS: usize>(g: [[f32; ROWS]; 3]) -> [[f32; ROWS]; 4] {
    let mut line = [g[0], [0.0; ROWS], [0.0; ROWS], g[2]];
    for row in 0..ROWS {
        let outer = 0.5 * (g[0][row] + g[2][row]);
        line[1][row] = outer + 0.5 * g[1][row];
        line[2][row] = outer - 0.5 * g[1][row];
    }
    line
}

/// Writes the values in even and odd columns of a line of the source to two lines of `tiles + 1`.
pub(super) struct Halve<'a> {
    pub source: &'a [f32],
    /// The column of the source that is the first tile's first; outside there are zeros.
    pub first: isize,
    pub tiles: usize,
    pub even: &'a mut [f32],
    pub odd: &'a mut [f32],
}

impl Halve<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Halve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { source, first, tiles, even, odd } = self;
        let inside =
            |column: isize| usize::try_from(column).ok().and_then(|c| source.get(c)).copied();
        let value = |column: isize| inside(column).unwrap_or(0.0);
        // Pairs that lie in the source as a whole.
        let from = first.min(0).unsigned_abs().div_ceil(2).min(tiles + 1);
        let start = (first + 2 * from as isize) as usize;
        let pairs = source.get(start..).unwrap_or_default().as_chunks::<2>().0;
        let pairs = &pairs[..pairs.len().min(tiles + 1 - from)];
        let (evens, odds) = (&mut even[from..], &mut odd[from..]);
        for ((pair, even), odd) in pairs.iter().zip(evens).zip(odds) {
            (*even, *odd) = (pair[0], pair[1]);
        }
        for index in (0..from).chain(from + pairs.len()..tiles + 1) {
            let column = first + 2 * index as isize;
            (even[index], odd[index]) = (value(column), value(column + 1));
        }
    }
}

/// Writes values by turns from two lines to the even and odd columns of a line of the output.
pub(super) struct Interleave<'a> {
    pub even: &'a [f32],
    pub odd: &'a [f32],
    /// One shorter than both together where its length is odd.
    pub line: &'a mut [f32],
}

impl Interleave<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { even, odd, line } = self;
        let (pairs, last) = line.as_chunks_mut::<2>();
        for (pair, (&even, &odd)) in pairs.iter_mut().zip(even.iter().zip(odd)) {
            *pair = [even, odd];
        }
        if let [last] = last {
            *last = even[pairs.len()];
        }
    }
}

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
