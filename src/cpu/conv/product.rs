//! The inner loop over packed sources: a register-blocked matrix product that reads both operands
//! sequentially.

#![allow(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "loops over constant ranges unroll, which keeps arrays of vectors in registers"
)]

use pulp::{Simd, WithSimd};

use super::kernel::registers;
use crate::simd::dispatch;

/// Computes `sums[row][column] += Σ_part Σ_step weights[part][step][row] · x[part][step][column]`,
/// for as many rows as [`super::kernel::rows_at_once`] returns.
pub(super) struct Product<'a> {
    /// Sources; the `columns` values of a step are contiguous.
    pub x: &'a [f32],
    /// Weights; those of the rows of a step are contiguous.
    pub weights: &'a [f32],
    /// Starts of the parts of the sum.
    pub parts: &'a [Part],
    /// Number of steps of each part.
    pub steps: usize,
    /// Rows of sums, at a distance of `pitch`.
    pub sums: &'a mut [f32],
    /// Distance between rows of `sums`.
    pub pitch: usize,
    /// Number of columns to compute: whole vectors, at most [`columns_at_once`].
    pub columns: usize,
    /// Whether to overwrite `sums` instead of adding to them.
    pub fresh: bool,
}

/// A part of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Offset of its first source.
    pub x: usize,
    /// Offset of its first weight.
    pub weight: usize,
}

impl Product<'_> {
    /// Runs the kernel with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }

    #[inline(always)]
    fn block<S: Simd, const VECTORS: usize, const ROWS: usize>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for part in self.parts {
            let x = self.x[part.x..][..self.steps * width].chunks_exact(width);
            let weights = &self.weights[part.weight..][..self.steps * ROWS];
            for (line, weights) in x.zip(weights.as_chunks::<ROWS>().0) {
                let (line, _) = S::as_simd_f32s(line);
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
        }
        // Moving `sums` into the iterator keeps the array above in registers.
        for (j, sums) in sums.into_iter().enumerate() {
            let (line, _) = S::as_mut_simd_f32s(&mut self.sums[j * self.pitch..][..width]);
            for v in 0..VECTORS {
                line[v] = if self.fresh { sums[v] } else { simd.add_f32s(line[v], sums[v]) };
            }
        }
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // 24 of 32 registers, or 12 of 16, hold sums; the rest hold a line of x and a weight.
        match (S::REGISTER_COUNT >= 32, self.columns / S::F32_LANES) {
            (true, 3) => self.block::<S, 3, 8>(simd),
            (true, 2) => self.block::<S, 2, 8>(simd),
            (true, _) => self.block::<S, 1, 8>(simd),
            (false, 2) => self.block::<S, 2, 6>(simd),
            (false, _) => self.block::<S, 1, 6>(simd),
        }
    }
}

/// Returns the largest number of columns that [`Product`] computes at a time.
pub(super) fn columns_at_once() -> usize {
    let (lanes, registers) = registers();
    lanes * if registers >= 32 { 3 } else { 2 }
}

/// Packs the source values that a block of columns needs from some channels into
/// `[channels, views, columns]`, in the order of the steps.
pub(super) struct Pack<'a> {
    /// Staged sources.
    pub source: &'a [f32],
    /// Number of channels.
    pub channels: usize,
    /// Distance between channels of the source.
    pub pitch: usize,
    /// Offset in a channel of the source of each step.
    pub views: &'a [usize],
    /// Rows to copy in each step, in ascending order of columns.
    pub rows: &'a [PackedRow],
    /// Packed sources. Whole vectors are written; values written past the end of a row are
    /// overwritten by a later row or step, or never read.
    pub packed: &'a mut [f32],
    /// Number of columns of the block.
    pub columns: usize,
}

/// A run of values that are contiguous both in the source and in the packed sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedRow {
    /// Offset of the first value from a view's start.
    pub from: usize,
    /// First column in the block.
    pub column: usize,
    /// Number of values.
    pub count: usize,
}

impl Pack<'_> {
    /// Runs the kernel with the machine's best vectors.
    pub(super) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { columns, views, .. } = self;
        for channel in 0..self.channels {
            let source = &self.source[channel * self.pitch..];
            let packed = &mut self.packed[channel * views.len() * columns..];
            for (step, &view) in views.iter().enumerate() {
                let (source, target) = (&source[view..], &mut packed[step * columns..]);
                for row in self.rows {
                    let (source, target) = (&source[row.from..], &mut target[row.column..]);
                    // The number of vectors, at most three, is known at compile time in each arm.
                    match row.count.div_ceil(S::F32_LANES) {
                        1 => copy::<S, 1>(source, target),
                        2 => copy::<S, 2>(source, target),
                        _ => copy::<S, 3>(source, target),
                    }
                }
            }
        }
    }
}

/// Copies `VECTORS` vectors.
#[inline(always)]
fn copy<S: Simd, const VECTORS: usize>(source: &[f32], target: &mut [f32]) {
    let length = VECTORS * S::F32_LANES;
    let (from, _) = S::as_simd_f32s(&source[..length]);
    let (to, _) = S::as_mut_simd_f32s(&mut target[..length]);
    for v in 0..VECTORS {
        to[v] = from[v];
    }
}
