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

/// Number of values of a tile.
pub(super) const TILE: usize = 16;

/// Computes `d B` of consecutive tiles for some lines of the source.
pub(super) struct HorizontalTransform<'a> {
    /// Lines as [`Deinterleave`] writes them.
    pub halves: &'a [f32],
    /// Distance between even and odd columns, and between the values of the result.
    pub pitch: usize,
    /// Number of tiles.
    pub count: usize,
    /// The four values of each line, at a distance of `pitch`. Whole vectors are written.
    pub target: &'a mut [f32],
}

impl HorizontalTransform<'_> {
    /// Runs the transform with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for HorizontalTransform<'_> {
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
                    let start = j * pitch + at * S::F32_LANES;
                    let (to, _) = S::as_mut_simd_f32s(&mut target[start..][..S::F32_LANES]);
                    to[0] = value;
                }
            }
        }
    }
}

/// Computes `Bᵀ (d B)` of consecutive tiles in a row of tiles.
pub(super) struct VerticalTransform<'a> {
    /// Four lines as [`HorizontalTransform`] writes them, from the first tile on.
    pub lines: &'a [f32],
    /// Distance between the values of a line.
    pub pitch: usize,
    /// Number of tiles.
    pub count: usize,
    /// Target, starting with the first tile's first value. Whole vectors are written.
    pub target: &'a mut [f32],
    /// Distance between the 16 values of a tile.
    pub value_stride: usize,
}

impl VerticalTransform<'_> {
    /// Runs the transform with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for VerticalTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { lines, pitch, count, target, value_stride } = self;
        let width = count.next_multiple_of(S::F32_LANES);
        for j in 0..4 {
            let line = |i: usize| S::as_simd_f32s(&lines[(i * 4 + j) * pitch..][..width]).0;
            let d = [line(0), line(1), line(2), line(3)];
            for at in 0..width / S::F32_LANES {
                let values = tile(simd, [d[0][at], d[1][at], d[2][at], d[3][at]]);
                for (i, value) in values.into_iter().enumerate() {
                    let start = (i * 4 + j) * value_stride + at * S::F32_LANES;
                    let (to, _) = S::as_mut_simd_f32s(&mut target[start..][..S::F32_LANES]);
                    to[0] = value;
                }
            }
        }
    }
}

/// Returns `Bᵀ d`.
#[inline(always)]
fn tile<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [
        simd.sub_f32s(d[0], d[2]),
        simd.add_f32s(d[1], d[2]),
        simd.sub_f32s(d[2], d[1]),
        simd.sub_f32s(d[1], d[3]),
    ]
}

/// Computes `Aᵀ m A` of many tiles.
pub(super) struct Outputs<'a> {
    /// Sums `[16, columns]`, where the first dimension has the stride `value_stride`.
    pub sums: &'a [f32],
    /// Distance between the 16 values of a tile.
    pub value_stride: usize,
    /// Outputs `[4, columns]`: the four outputs of each tile.
    pub outputs: &'a mut [f32],
    /// Number of tiles, whole vectors.
    pub columns: usize,
}

impl Outputs<'_> {
    /// Runs the transform with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, value_stride, outputs, columns } = self;
        let lanes = S::F32_LANES;
        for at in (0..columns).step_by(lanes) {
            let mut rows = [[simd.splat_f32s(0.0); 2]; 4];
            for i in 0..4 {
                let sum = |j: usize| {
                    let start = (i * 4 + j) * value_stride + at;
                    S::as_simd_f32s(&sums[start..][..lanes]).0[0]
                };
                rows[i] = output(simd, [sum(0), sum(1), sum(2), sum(3)]);
            }
            for j in 0..2 {
                let m = [rows[0][j], rows[1][j], rows[2][j], rows[3][j]];
                for (i, value) in output(simd, m).into_iter().enumerate() {
                    let start = (i * 2 + j) * columns + at;
                    let (to, _) = S::as_mut_simd_f32s(&mut outputs[start..][..lanes]);
                    to[0] = value;
                }
            }
        }
    }
}

/// Returns `Aᵀ m`.
#[inline(always)]
fn output<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(m[0], m[1]), m[2]), simd.sub_f32s(simd.sub_f32s(m[1], m[2]), m[3])]
}

/// Computes `G g Gᵀ` of windows whose taps each hold the weights of some rows.
pub(super) struct Windows<'a> {
    /// Weights `[windows, 9, rows]`.
    pub weights: &'a [f32],
    /// Index of the tap at each position of the window.
    pub taps: [[usize; 3]; 3],
    /// Number of rows, as returned by [`crate::conv::kernel::rows_at_once`].
    pub rows: usize,
    /// Result `[16, windows, rows]`, where the first dimension has the stride `value_stride`.
    pub target: &'a mut [f32],
    /// Distance between the 16 values of a transformed window.
    pub value_stride: usize,
}

impl Windows<'_> {
    /// Runs the transform with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }

    #[inline(always)]
    fn rows<const ROWS: usize>(self) {
        let Self { weights, taps, target, value_stride, .. } = self;
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
                    let start = (i * 4 + j) * value_stride + index * ROWS;
                    target[start..][..ROWS].copy_from_slice(&values);
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

/// Returns `G g`.
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

/// Splits each of some lines of a plane into its even and its odd columns, `tiles + 1` values each;
/// values outside the plane are zero.
pub(super) struct Deinterleave<'a> {
    /// The plane; the slice may extend beyond its end.
    pub plane: &'a [f32],
    /// Height and width of the plane.
    pub size: [usize; 2],
    /// Row and column of the plane where the first line starts.
    pub first: [isize; 2],
    pub tiles: usize,
    /// Even and odd columns, `[lines, 2, pitch]`.
    pub halves: &'a mut [f32],
    /// Distance between even and odd columns, a vector more than `tiles + 1` values need.
    pub pitch: usize,
}

impl Deinterleave<'_> {
    /// Runs the kernel with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

/// Number of pairs of columns that are moved at once.
const PAIRS: usize = 16;

impl WithSimd for Deinterleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { plane, size: [height, width], first: [row, first], tiles, halves, pitch } = self;
        // Pairs that lie entirely inside the source.
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
                // Moves whole vectors where enough values follow, even if they belong to later
                // lines.
                if let (Some(source), Some(even), Some(odd)) =
                    (source.first_chunk(), even.first_chunk_mut(), odd.first_chunk_mut())
                {
                    split_pairs::<PAIRS>(source, even, odd);
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
fn split_pairs<const N: usize>(source: &[[f32; 2]; N], even: &mut [f32; N], odd: &mut [f32; N]) {
    for i in 0..N {
        (even[i], odd[i]) = (source[i][0], source[i][1]);
    }
}

/// Writes the outputs of some rows of tiles to the lines of the plane.
pub(super) struct Interleave<'a> {
    /// The four outputs of the tiles, row by row, at a distance of `pitch`.
    pub outputs: &'a [f32],
    pub pitch: usize,
    /// Number of tiles per row.
    pub tiles: usize,
    /// Number of values of a line. The last row of tiles may lack its second line, and the last
    /// tile of each row its second column.
    pub width: usize,
    pub lines: &'a mut [f32],
}

impl Interleave<'_> {
    /// Runs the kernel with the machine's best vectors.
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
