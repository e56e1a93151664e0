//! The transforms of F(2×2, 3×3), over whole vectors.
//!
//! `y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` for a window g of 3×3 and a tile d of 4×4, with
//! `Bᵀ = [1 0 −1 0; 0 1 1 0; 0 −1 1 0; 0 1 0 −1]`, `G = [1 0 0; ½ ½ ½; ½ −½ ½; 0 0 1]` and
//! `Aᵀ = [1 1 1 0; 0 1 −1 −1]`: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2015, section 4.1.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over constant ranges unroll, which keeps arrays of vectors in registers"
)]

use pulp::{Simd, WithSimd};

use crate::simd::dispatch;

/// Values of a tile.
pub(super) const TILE: usize = 16;

/// `d B` of neighbouring tiles of some lines of the source.
pub(super) struct Along<'a> {
    /// Each line as [`Halve`] writes it.
    pub halves: &'a [f32],
    /// As in [`Halve`].
    pub pitch: usize,
    /// Tiles.
    pub count: usize,
    /// The four values of each line, `pitch` apart. Whole vectors are written.
    pub target: &'a mut [f32],
}

impl Along<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Along<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { halves, pitch, count, target } = self;
        let width = count.next_multiple_of(S::F32_LANES);
        let lines = halves.chunks_exact(2 * pitch).zip(target.chunks_exact_mut(4 * pitch));
        for (halves, target) in lines {
            let source =
                |half: usize, on: usize| S::as_simd_f32s(&halves[half * pitch + on..][..width]).0;
            let d = [source(0, 0), source(1, 0), source(0, 1), source(1, 1)];
            for at in 0..width / S::F32_LANES {
                let values = tile(simd, [d[0][at], d[1][at], d[2][at], d[3][at]]);
                for (j, value) in values.into_iter().enumerate() {
                    let place = j * pitch + at * S::F32_LANES;
                    let (to, _) = S::as_mut_simd_f32s(&mut target[place..][..S::F32_LANES]);
                    to[0] = value;
                }
            }
        }
    }
}

/// `Bᵀ (d B)` of neighbouring tiles in a row of tiles.
pub(super) struct Down<'a> {
    /// Four lines as [`Along`] writes them, from the first tile on.
    pub lines: &'a [f32],
    /// As there.
    pub pitch: usize,
    /// Tiles.
    pub count: usize,
    /// Place of the first tile's first value. Whole vectors are written.
    pub target: &'a mut [f32],
    /// From one value of a tile to the next.
    pub apart: usize,
}

impl Down<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Down<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { lines, pitch, count, target, apart } = self;
        let width = count.next_multiple_of(S::F32_LANES);
        for j in 0..4 {
            let line = |i: usize| S::as_simd_f32s(&lines[(i * 4 + j) * pitch..][..width]).0;
            let d = [line(0), line(1), line(2), line(3)];
            for at in 0..width / S::F32_LANES {
                let values = tile(simd, [d[0][at], d[1][at], d[2][at], d[3][at]]);
                for (i, value) in values.into_iter().enumerate() {
                    let place = (i * 4 + j) * apart + at * S::F32_LANES;
                    let (to, _) = S::as_mut_simd_f32s(&mut target[place..][..S::F32_LANES]);
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

/// Writes the values in even and those in odd columns of some lines of a plane to two lines of
/// `tiles + 1` values each; outside of the plane there are zeros.
pub(super) struct Halve<'a> {
    /// The plane, and whatever follows it.
    pub plane: &'a [f32],
    /// Its height and width.
    pub size: [usize; 2],
    /// Row and column of the plane where the first line starts.
    pub first: [isize; 2],
    pub tiles: usize,
    /// `[lines, 2, pitch]`.
    pub halves: &'a mut [f32],
    /// A vector more than a line needs.
    pub pitch: usize,
}

impl Halve<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

/// Pairs of columns that are moved at once.
const PAIRS: usize = 16;

impl WithSimd for Halve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { plane, size: [height, width], first: [row, first], tiles, halves, pitch } = self;
        // Pairs that lie in the source as a whole.
        let from = first.min(0).unsigned_abs().div_ceil(2).min(tiles + 1);
        let start = (first + 2 * from as isize) as usize;
        let pairs = (width.saturating_sub(start) / 2).min(tiles + 1 - from);
        for (index, halves) in halves.chunks_exact_mut(2 * pitch).enumerate() {
            let down = row + index as isize;
            let Some(down) = usize::try_from(down).ok().filter(|&down| down < height) else {
                halves.fill(0.0);
                continue;
            };
            let line = &plane[down * width..];
            let (even, odd) = halves.split_at_mut(pitch);
            for at in (0..pairs).step_by(PAIRS) {
                let source = line[start + 2 * at..].as_chunks::<2>().0;
                let (even, odd) = (&mut even[from + at..], &mut odd[from + at..]);
                // Whole vectors where there are so many values, even of the lines that follow.
                if let (Some(source), Some(even), Some(odd)) =
                    (source.first_chunk(), even.first_chunk_mut(), odd.first_chunk_mut())
                {
                    halve::<PAIRS>(source, even, odd);
                } else {
                    let whole = source.iter().take(pairs - at);
                    for ((pair, even), odd) in whole.zip(even).zip(odd) {
                        (*even, *odd) = (pair[0], pair[1]);
                    }
                }
            }
            let value = |column: isize| {
                let inside = usize::try_from(column).ok().filter(|&column| column < width);
                inside.map_or(0.0, |column| line[column])
            };
            for index in 0..from {
                let column = first + 2 * index as isize;
                (even[index], odd[index]) = (value(column), value(column + 1));
            }
            for index in from + pairs..tiles + 1 {
                let column = first + 2 * index as isize;
                (even[index], odd[index]) = (value(column), value(column + 1));
            }
        }
    }
}

#[inline(always)]
fn halve<const N: usize>(source: &[[f32; 2]; N], even: &mut [f32; N], odd: &mut [f32; N]) {
    for i in 0..N {
        (even[i], odd[i]) = (source[i][0], source[i][1]);
    }
}

/// Writes the outputs of some rows of tiles to the lines of the plane.
pub(super) struct Interleave<'a> {
    /// The four outputs of each tile, `pitch` apart: row after row of tiles.
    pub outputs: &'a [f32],
    pub pitch: usize,
    /// Tiles of a row.
    pub tiles: usize,
    /// Values of a line. The last line may be missing, and so may the last value of each.
    pub width: usize,
    pub lines: &'a mut [f32],
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
        let Self { outputs, pitch, tiles, width, lines } = self;
        for (index, line) in lines.chunks_exact_mut(width).enumerate() {
            let first = index / 2 * tiles;
            let at = |j: usize| &outputs[(2 * (index % 2) + j) * pitch + first..][..tiles];
            let (even, odd) = (at(0), at(1));
            let (pairs, last) = line.as_chunks_mut::<2>();
            for (pair, (&even, &odd)) in pairs.iter_mut().zip(even.iter().zip(odd)) {
                *pair = [even, odd];
            }
            if let [last] = last {
                *last = even[pairs.len()];
            }
        }
    }
}
