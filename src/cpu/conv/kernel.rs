//! The inner loops: two register-blocked outer-product kernels, generic over the machine's vectors
//! (AVX-512, AVX2, NEON, or scalars).

#![allow(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "loops over constant ranges unroll, which keeps arrays of vectors in registers"
)]

use pulp::{Simd, WithSimd};

use crate::simd::dispatch;

/// Largest number of taps that [`Correlate`] computes at a time.
pub(super) const TAPS: usize = 12;

/// Largest number of values in a vector on any machine. Columns may be read and written up to the
/// next multiple of it.
pub(super) const LANES: usize = 16;

/// Number of columns per call of [`Accumulate`] that fills the registers on every machine.
pub(super) const BLOCK: usize = 3 * LANES;

/// Computes `sums[row][column] += Σ_d weights[d.weight][row] · x[d.x + column]`, for as many rows
/// as [`rows_at_once`] returns.
pub(super) struct Accumulate<'a> {
    /// Sources.
    pub x: &'a [f32],
    /// Steps of the sum.
    pub steps: &'a [Step],
    /// Weights; those of the rows of a step are contiguous.
    pub weights: &'a [f32],
    /// Rows of sums, at a distance of `pitch`.
    pub sums: &'a mut [f32],
    /// Distance between rows of `sums`.
    pub pitch: usize,
    /// Number of columns to compute.
    pub columns: usize,
    /// Whether to overwrite `sums` instead of adding to them.
    pub fresh: bool,
}

/// One step of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Offset of column 0 in x.
    pub x: u32,
    /// Index of the step's weights, counted in groups of one weight per row.
    pub weight: u32,
}

impl Accumulate<'_> {
    /// Runs the kernel with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }

    /// Computes `VECTORS` vectors of columns, starting at `column`, for `ROWS` rows.
    #[inline(always)]
    fn block<S: Simd, const VECTORS: usize, const ROWS: usize>(&mut self, simd: S, column: usize) {
        let width = VECTORS * S::F32_LANES;
        let x = &self.x[column..];
        let weights = self.weights.as_chunks::<ROWS>().0;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for step in self.steps {
            let (line, _) = S::as_simd_f32s(&x[step.x as usize..][..width]);
            let weights = &weights[step.weight as usize];
            let mut values = [simd.splat_f32s(0.0); VECTORS];
            for v in 0..VECTORS {
                values[v] = line[v];
            }
            for j in 0..ROWS {
                let weight = simd.splat_f32s(weights[j]);
                for v in 0..VECTORS {
                    sums[j][v] = simd.mul_add_e_f32s(weight, values[v], sums[j][v]);
                }
            }
        }
        // Moving `sums` into the iterator keeps the array above in registers.
        for (j, sums) in sums.into_iter().enumerate() {
            let line = &mut self.sums[j * self.pitch + column..][..width];
            let (line, _) = S::as_mut_simd_f32s(line);
            for v in 0..VECTORS {
                line[v] = if self.fresh { sums[v] } else { simd.add_f32s(line[v], sums[v]) };
            }
        }
    }

    /// Computes all columns for `ROWS` rows, `WIDE` vectors at a time.
    #[inline(always)]
    fn rows<S: Simd, const WIDE: usize, const ROWS: usize>(&mut self, simd: S) {
        let lanes = S::F32_LANES;
        let vectors = self.columns.div_ceil(lanes);
        let whole = vectors / WIDE * WIDE;
        for vector in (0..whole).step_by(WIDE) {
            self.block::<S, WIDE, ROWS>(simd, vector * lanes);
        }
        match vectors - whole {
            2 => self.block::<S, 2, ROWS>(simd, whole * lanes),
            1 => self.block::<S, 1, ROWS>(simd, whole * lanes),
            _ => {}
        }
    }
}

impl WithSimd for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // 24 of 32 registers, or 12 of 16, hold sums; the rest hold a line of x and a weight.
        if S::REGISTER_COUNT >= 32 {
            self.rows::<S, 3, 8>(simd);
        } else {
            self.rows::<S, 2, 6>(simd);
        }
    }
}

/// Returns the number of output rows (channels) that [`Accumulate`] computes at a time.
pub(super) fn rows_at_once() -> usize {
    let (_, registers) = registers();
    if registers >= 32 { 8 } else { 6 }
}

/// Computes `sums[tap][k] += Σ_p x[starts[tap] + p] · dy[p][k]` over positions p, for as many taps
/// as [`taps_at_once`] returns and the `width` channels of one panel of dy.
pub(super) struct Correlate<'a> {
    /// Sources.
    pub x: &'a [f32],
    /// Offset of each tap's first position in x.
    pub starts: &'a [usize],
    /// Distance between rows of positions in x.
    pub pitch: usize,
    /// Number of positions in a row.
    pub row: usize,
    /// One panel of the output's gradient, `[positions, width]`, without gaps between rows.
    pub dy: &'a [f32],
    /// Number of channels in the panel, one of [`panel_widths`].
    pub width: usize,
    /// Sums `[taps, width]`.
    pub sums: &'a mut [f32],
}

impl Correlate<'_> {
    /// Runs the kernel with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }

    #[inline(always)]
    fn block<S: Simd, const VECTORS: usize, const NT: usize>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; NT];
        let mut x = [self.x; NT];
        for (index, dy) in self.dy.chunks_exact(self.row * width).enumerate() {
            // Rows of equal length, so that one bounds check per position covers all of them.
            for j in 0..NT {
                x[j] = &self.x[self.starts[j] + index * self.pitch..][..self.row];
            }
            for (position, dy) in dy.chunks_exact(width).enumerate() {
                let (values, _) = S::as_simd_f32s(dy);
                let mut gradient = [simd.splat_f32s(0.0); VECTORS];
                for v in 0..VECTORS {
                    gradient[v] = values[v];
                }
                for j in 0..NT {
                    let source = simd.splat_f32s(x[j][position]);
                    for v in 0..VECTORS {
                        sums[j][v] = simd.mul_add_e_f32s(source, gradient[v], sums[j][v]);
                    }
                }
            }
        }
        for (line, sums) in self.sums.chunks_exact_mut(width).zip(sums) {
            let (whole, _) = S::as_mut_simd_f32s(line);
            for v in 0..VECTORS {
                whole[v] = simd.add_f32s(whole[v], sums[v]);
            }
        }
    }
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = self.width / S::F32_LANES;
        match (vectors, self.starts.len()) {
            (4, 6) => self.block::<S, 4, 6>(simd),
            (4, 4) => self.block::<S, 4, 4>(simd),
            (4, 2) => self.block::<S, 4, 2>(simd),
            (3, 8) => self.block::<S, 3, 8>(simd),
            (3, 4) => self.block::<S, 3, 4>(simd),
            (2, 12) => self.block::<S, 2, 12>(simd),
            (2, 6) => self.block::<S, 2, 6>(simd),
            (2, 4) => self.block::<S, 2, 4>(simd),
            (1, 12) => self.block::<S, 1, 12>(simd),
            (vectors, taps) => unreachable!("{taps} taps at once for {vectors} vectors"),
        }
    }
}

/// Copies rows of `row` values, at a distance of `pitch` in the source, to a contiguous target.
pub(super) struct CopyRows<'a> {
    /// Source values, from the first row on.
    pub source: &'a [f32],
    /// Distance between rows of the source.
    pub pitch: usize,
    /// Target; its length is a multiple of `row`.
    pub target: &'a mut [f32],
    /// Number of values in a row.
    pub row: usize,
}

impl CopyRows<'_> {
    /// Runs the kernel with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { source, pitch, target, row } = self;
        // Copies whole vectors; the next rows overwrite the surplus values.
        let whole = row.next_multiple_of(S::F32_LANES);
        for line in 0..target.len() / row {
            let (source, target) = (&source[line * pitch..], &mut target[line * row..]);
            if whole <= source.len() && whole <= target.len() {
                let (source, _) = S::as_simd_f32s(&source[..whole]);
                let (target, _) = S::as_mut_simd_f32s(&mut target[..whole]);
                for (to, from) in target.iter_mut().zip(source) {
                    *to = *from;
                }
            } else {
                target[..row].copy_from_slice(&source[..row]);
            }
        }
    }
}

/// Returns the widths of the panels that `channels` channels are split into for [`Correlate`]:
/// whole vectors, as even as possible, and as few panels as the registers allow.
pub(super) fn panel_widths(channels: usize) -> Vec<usize> {
    let (lanes, registers) = registers();
    let vectors = channels.div_ceil(lanes);
    let panels = vectors.div_ceil(if registers >= 32 { 4 } else { 2 });
    (0..panels).map(|p| ((p + 1) * vectors / panels - p * vectors / panels) * lanes).collect()
}

/// Returns how many taps [`Correlate`] computes at once for a panel of this width when `left` taps
/// are left: as many as the registers hold, and for the last taps the smallest number that covers
/// them. At most [`TAPS`].
pub(super) fn taps_at_once(width: usize, left: usize) -> usize {
    let (lanes, registers) = registers();
    let choices: &[usize] = match (width / lanes, registers >= 32) {
        (4, _) => &[2, 4, 6],
        (3, _) => &[4, 8],
        (2, true) => &[4, 12],
        (2, false) => &[4, 6],
        _ => &[12],
    };
    let enough = choices.iter().find(|&&taps| taps >= left);
    *enough.unwrap_or(&choices[choices.len() - 1])
}

/// Returns the number of values in a vector and the number of vector registers.
pub(super) fn registers() -> (usize, usize) {
    dispatch(Registers)
}

struct Registers;

impl WithSimd for Registers {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (usize, usize) {
        (S::F32_LANES, S::REGISTER_COUNT)
    }
}
