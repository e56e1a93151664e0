//! The inner loops: two register-blocked outer-product kernels, written once over whatever vectors
//! the machine has (AVX-512, AVX2, NEON, or single values).

#![allow(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "loops over constant ranges unroll, which keeps arrays of vectors in registers"
)]

use pulp::{Simd, WithSimd};

use crate::simd::dispatch;

/// The most rows of the weight gradient that [`Correlate`] works on at a time.
pub(super) const TAPS: usize = 12;

/// The most values in a vector on any machine. Columns may be read and written up to the next
/// multiple of it.
pub(super) const LANES: usize = 16;

/// Columns of a call of [`Accumulate`] that keep its registers full on every machine.
pub(super) const BLOCK: usize = 3 * LANES;

/// `sums[row][column] += Σ_d weights[d.weight][row] · x[d.x + column]`, for as many rows as
/// [`rows_at_once`] returns.
pub(super) struct Accumulate<'a> {
    /// Sources.
    pub x: &'a [f32],
    /// Where each step of the sum finds its source and its weights.
    pub steps: &'a [Step],
    /// Weights of all rows after those of another step.
    pub weights: &'a [f32],
    /// Rows of columns, `pitch` apart.
    pub sums: &'a mut [f32],
    /// Distance between rows of `sums`.
    pub pitch: usize,
    /// Columns to work on.
    pub columns: usize,
    /// Start from zero instead of from what `sums` holds.
    pub fresh: bool,
}

/// One step of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Where in x column 0 is.
    pub x: u32,
    /// Which of the weights.
    pub weight: u32,
}

impl Accumulate<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }

    /// `VECTORS` vectors from `column` on times `ROWS` rows.
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

    /// `ROWS` rows, `WIDE` vectors at a time.
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
        // 24 sums of 32 registers, or 12 of 16: the rest hold a line of x and a weight.
        if S::REGISTER_COUNT >= 32 {
            self.rows::<S, 3, 8>(simd);
        } else {
            self.rows::<S, 2, 6>(simd);
        }
    }
}

/// Rows of the output (channels) that [`Accumulate`] works on at a time.
pub(super) fn rows_at_once() -> usize {
    let (_, registers) = registers();
    if registers >= 32 { 8 } else { 6 }
}

/// `sums[tap][k] += Σ_places x[starts[tap] + place] · dy[place][k]`, for as many taps as
/// [`taps_at_once`] returns and the `width` channels of one panel of dy.
pub(super) struct Correlate<'a> {
    /// Sources.
    pub x: &'a [f32],
    /// Where in x each tap's first position is.
    pub starts: &'a [usize],
    /// Distance between rows of positions in x.
    pub pitch: usize,
    /// Positions in a row.
    pub row: usize,
    /// One panel of the output's gradient, `[positions, width]`, rows of positions one after
    /// another.
    pub dy: &'a [f32],
    /// Channels in the panel, one of [`panel_widths`].
    pub width: usize,
    /// `[taps, width]`.
    pub sums: &'a mut [f32],
}

impl Correlate<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }

    #[inline(always)]
    fn block<S: Simd, const VECTORS: usize, const NT: usize>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; NT];
        let mut x = [self.x; NT];
        for (index, dy) in self.dy.chunks_exact(self.row * width).enumerate() {
            // Rows of one length, so that a position costs one bounds check for all of them.
            for j in 0..NT {
                x[j] = &self.x[self.starts[j] + index * self.pitch..][..self.row];
            }
            for (place, dy) in dy.chunks_exact(width).enumerate() {
                let (values, _) = S::as_simd_f32s(dy);
                let mut gradient = [simd.splat_f32s(0.0); VECTORS];
                for v in 0..VECTORS {
                    gradient[v] = values[v];
                }
                for j in 0..NT {
                    let source = simd.splat_f32s(x[j][place]);
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

/// Copies rows of `row` values, `pitch` apart in the source, to one after another.
pub(super) struct CopyRows<'a> {
    /// Starts with the first row.
    pub source: &'a [f32],
    /// Distance between rows of the source.
    pub pitch: usize,
    /// Room for whole rows.
    pub target: &'a mut [f32],
    /// Values in a row.
    pub row: usize,
}

impl CopyRows<'_> {
    /// Does the work with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { source, pitch, target, row } = self;
        // Whole vectors; what they write too much, the next rows overwrite.
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

/// Widths of the panels into which [`Correlate`] wants `channels` channels split: whole vectors, as
/// even as they go, as many at once as registers allow.
pub(super) fn panel_widths(channels: usize) -> Vec<usize> {
    let (lanes, registers) = registers();
    let vectors = channels.div_ceil(lanes);
    let panels = vectors.div_ceil(if registers >= 32 { 4 } else { 2 });
    (0..panels).map(|p| ((p + 1) * vectors / panels - p * vectors / panels) * lanes).collect()
}

/// How many taps [`Correlate`] takes at once for a panel of this width when so many are `left`: as
/// many as registers hold, in the end those that leave the fewest unused. At most [`TAPS`].
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

/// Values in a vector, and how many vectors the machine holds.
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
