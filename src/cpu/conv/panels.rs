//! Reordering of the weights into the order in which the inner loops read them.
//!
//! In `[K, C, kt, kh, kw]` the outputs that are computed together are far apart, and in the input
//! gradient the inputs are as well: every step of a sum would read as many cache lines and pages as
//! there are outputs. After reordering, all weights of a step are contiguous, and so are the steps.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over constant ranges unroll, which keeps arrays of rows in registers"
)]

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::axis::Phase;
use super::kernel::rows_at_once;
use super::transpose::Shuffles;
use crate::simd::dispatch;

/// Minimum number of adjacent weights that are transposed as a run.
const LONG_RUN: usize = 4;

/// Number of blocks that are filled together, since weights of one input may be adjacent across
/// blocks.
const BLOCKS_AT_ONCE: usize = 8;

/// Position of the weights in `[K, C, kt, kh, kw]`, with names from the side that is written: the
/// outputs are K in the forward pass and C in the input gradient.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightOrder {
    /// Number of channels written.
    pub outputs: usize,
    /// Number of channels read.
    pub inputs: usize,
    /// Distance between weights of neighbouring outputs.
    pub output_step: usize,
    /// Distance between weights of neighbouring inputs.
    pub input_step: usize,
    /// Kernel size kt, kh, kw.
    pub kernel: [usize; 3],
}

/// The reordered weights: one panel `[inputs, taps of the phase, outputs of the block]` for each
/// phase, block of outputs and time tap.
pub(super) struct Panels<'a> {
    weights: &'a [f32],
    order: &'a WeightOrder,
    /// Number of outputs per block.
    rows: usize,
    /// Per phase, its number of taps, and the offsets of the weights of all inputs and taps from an
    /// output's first weight.
    phases: Vec<(usize, Vec<usize>)>,
    /// Time taps in use.
    times: Vec<usize>,
}

impl<'a> Panels<'a> {
    /// Computes the order for pairs of phases of height and width and the time taps in use.
    pub(super) fn new(
        weights: &'a [f32],
        order: &'a WeightOrder,
        phases: &[[&Phase; 2]],
        times: Vec<usize>,
    ) -> Self {
        let [_, _, kw] = order.kernel;
        let offsets = |[h, w]: &[&Phase; 2]| {
            let taps = h.taps.iter().flat_map(|h| w.taps.iter().map(move |w| (h, w)));
            let taps: Vec<_> = taps.map(|(h, w)| h.index * kw + w.index).collect();
            let mut offsets = Vec::with_capacity(order.inputs * taps.len());
            for input in 0..order.inputs {
                offsets.extend(taps.iter().map(|tap| input * order.input_step + tap));
            }
            (taps.len(), offsets)
        };
        let phases = phases.iter().map(offsets).collect();
        Self { weights, order, rows: rows_at_once(), phases, times }
    }

    /// Number of outputs per block.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of values in a panel of `inputs` inputs.
    pub(super) fn len(&self, phase: usize, inputs: usize) -> usize {
        inputs * self.phases[phase].0 * self.rows
    }

    /// Number of blocks of outputs.
    pub(super) fn blocks(&self) -> usize {
        self.order.outputs.div_ceil(self.rows)
    }

    /// Number of values in all panels.
    pub(super) fn total_len(&self) -> usize {
        let phases = (0..self.phases.len()).map(|phase| self.len(phase, self.order.inputs));
        phases.sum::<usize>() * self.times.len() * self.blocks()
    }

    /// Fills all panels.
    pub(super) fn fill_all(&self, panels: &mut [f32]) {
        let mut rest = panels;
        for phase in 0..self.phases.len() {
            let length = self.len(phase, self.order.inputs);
            let (panels, others) = rest.split_at_mut(length * self.times.len() * self.blocks());
            rest = others;
            let step = length * self.times.len();
            let part = panels.par_chunks_mut((BLOCKS_AT_ONCE * step).max(1)).enumerate();
            part.for_each(|(part, panels)| {
                let first = part * BLOCKS_AT_ONCE;
                let blocks = first..first + panels.len() / step.max(1);
                for (index, &time) in self.times.iter().enumerate() {
                    let panels = &mut panels[index * length..];
                    self.fill(phase, blocks.clone(), step, time, 0..self.order.inputs, panels);
                }
            });
        }
    }

    /// Returns the panel of a phase, block of outputs and time tap among all panels, starting at an
    /// input.
    pub(super) fn find<'p>(
        &self,
        panels: &'p [f32],
        phase: usize,
        block: usize,
        time: usize,
        input: usize,
    ) -> &'p [f32] {
        let inputs = self.order.inputs;
        let before: usize = (0..phase).map(|phase| self.len(phase, inputs)).sum();
        let time = self.times.iter().position(|&t| t == time);
        let time = time.expect("panels hold the weights of every time tap that is in use");
        let index = before * self.blocks() * self.times.len()
            + (block * self.times.len() + time) * self.len(phase, inputs);
        &panels[index..][self.len(phase, input)..self.len(phase, inputs)]
    }

    /// Fills the panels of a subset of blocks and inputs for one time tap.
    pub(super) fn fill_subset(
        &self,
        first: usize,
        blocks: usize,
        time: usize,
        inputs: Range<usize>,
        panels: &mut [f32],
    ) {
        let mut rest = panels;
        for phase in 0..self.phases.len() {
            let step = self.len(phase, inputs.len());
            let (panels, others) = rest.split_at_mut(step * blocks);
            rest = others;
            self.fill(phase, first..first + blocks, step, time, inputs.clone(), panels);
        }
    }

    /// Returns the panel of a phase and block among panels of a subset of `blocks` blocks and
    /// `inputs` inputs; `block` counts from the first of the subset.
    pub(super) fn find_in_subset<'p>(
        &self,
        panels: &'p [f32],
        phase: usize,
        block: usize,
        blocks: usize,
        inputs: usize,
    ) -> &'p [f32] {
        let before: usize = (0..phase).map(|phase| self.len(phase, inputs)).sum();
        let length = self.len(phase, inputs);
        &panels[before * blocks + block * length..][..length]
    }

    /// Number of values in the panels of a subset of blocks and inputs for all time taps in use.
    pub(super) fn subset_len(&self, blocks: usize, inputs: usize) -> usize {
        let phases = (0..self.phases.len()).map(|phase| self.len(phase, inputs));
        phases.sum::<usize>() * self.times.len() * blocks
    }

    /// Fills the panels of a subset of blocks and inputs for all time taps in use.
    pub(super) fn fill_blocks(
        &self,
        blocks: Range<usize>,
        inputs: Range<usize>,
        panels: &mut [f32],
    ) {
        let mut rest = panels;
        for phase in 0..self.phases.len() {
            let (length, step) =
                (self.len(phase, inputs.len()), self.block_stride(phase, inputs.len()));
            let (panels, others) = rest.split_at_mut(step * blocks.len());
            rest = others;
            for (index, &time) in self.times.iter().enumerate() {
                let panels = &mut panels[index * length..];
                self.fill(phase, blocks.clone(), step, time, inputs.clone(), panels);
            }
        }
    }

    /// Returns the offset, among all panels, of the weights of a phase and block for the first time
    /// tap in use, starting at an input.
    pub(super) fn offset(&self, phase: usize, block: usize, input: usize) -> usize {
        self.subset_offset(phase, self.blocks(), self.order.inputs)
            + block * self.block_stride(phase, self.order.inputs)
            + self.len(phase, input)
    }

    /// Returns the offset of a phase's first block among panels of a subset of `blocks` blocks and
    /// `inputs` inputs.
    pub(super) fn subset_offset(&self, phase: usize, blocks: usize, inputs: usize) -> usize {
        let before: usize = (0..phase).map(|phase| self.len(phase, inputs)).sum();
        before * blocks * self.times.len()
    }

    /// Distance between blocks in panels of `inputs` inputs for all time taps in use.
    pub(super) fn block_stride(&self, phase: usize, inputs: usize) -> usize {
        self.times.len() * self.len(phase, inputs)
    }

    /// Position of the weights in `[K, C, kt, kh, kw]`.
    pub(super) fn order(&self) -> &WeightOrder {
        self.order
    }

    /// Number of phases.
    pub(super) fn phases(&self) -> usize {
        self.phases.len()
    }

    /// Fills the panels of one phase and time tap for a range of blocks and inputs; the distance
    /// between blocks is `step`.
    #[allow(clippy::too_many_arguments)]
    fn fill(
        &self,
        phase: usize,
        blocks: Range<usize>,
        step: usize,
        time: usize,
        inputs: Range<usize>,
        panels: &mut [f32],
    ) {
        let (taps, offsets) = &self.phases[phase];
        let offsets = &offsets[inputs.start * taps..inputs.end * taps];
        // Contiguous weights are transposed together.
        let next = offsets.iter().zip(&offsets[offsets.len().min(1)..]);
        let run = next.take_while(|(a, b)| *a + 1 == **b).count() + 1;
        let run = run.min(offsets.len());
        if run >= LONG_RUN && offsets.len().is_multiple_of(run) {
            let [_, kh, kw] = self.order.kernel;
            let job = Interleave {
                weights: &self.weights[time * kh * kw..],
                order: self.order,
                offsets,
                run,
                blocks,
                step,
                panels,
                shuffles: Shuffles::new(),
            };
            return match self.rows {
                8 => job.run::<8>(),
                _ => job.run::<6>(),
            };
        }
        for (index, block) in blocks.enumerate() {
            let panel = &mut panels[index * step..][..offsets.len() * self.rows];
            match self.rows {
                8 => self.fill_rows::<8>(block * 8, time, offsets, panel),
                _ => self.fill_rows::<6>(block * 6, time, offsets, panel),
            }
        }
    }

    fn fill_rows<const ROWS: usize>(
        &self,
        first: usize,
        time: usize,
        offsets: &[usize],
        panel: &mut [f32],
    ) {
        let Some(end) = offsets.iter().max().map(|offset| offset + 1) else { return };
        let order = self.order;
        let [_, kh, kw] = order.kernel;
        // Rows of equal length, so that one bounds check per position covers all of them.
        let mut rows = [self.weights; ROWS];
        for j in 0..ROWS {
            // Surplus rows of the last block repeat the last output.
            let start = (first + j).min(order.outputs - 1) * order.output_step;
            rows[j] = &self.weights[start + time * kh * kw..][..end];
        }
        for (line, &offset) in panel.as_chunks_mut::<ROWS>().0.iter_mut().zip(offsets) {
            for j in 0..ROWS {
                line[j] = rows[j][offset];
            }
        }
    }
}

/// Computes `panels[block · step + i · ROWS + row] = weights[offsets[i]]`, with the offsets
/// relative to the weights of each row's output, for offsets that form contiguous runs of length
/// `run`.
struct Interleave<'a> {
    weights: &'a [f32],
    order: &'a WeightOrder,
    offsets: &'a [usize],
    run: usize,
    blocks: Range<usize>,
    step: usize,
    panels: &'a mut [f32],
    shuffles: Shuffles,
}

impl Interleave<'_> {
    fn run<const ROWS: usize>(self) {
        dispatch(InterleaveRows::<ROWS>(self));
    }

    /// Fills the panel of a run of nine weights, where the distance between outputs is `STEP`. With
    /// lengths known at compile time, input gradients on planes of 7×7 take 0.9 of the time.
    #[inline(always)]
    fn window<const ROWS: usize, const STEP: usize>(&mut self, index: usize, block: usize) {
        let start = self.offsets[index * 9] + (self.blocks.start + block) * ROWS * STEP;
        let whole = (self.blocks.start + block + 1) * ROWS <= self.order.outputs;
        let rows = self.weights[start..].as_chunks::<STEP>().0.first_chunk::<ROWS>();
        // The very last row of the weights is handled separately, as less than a step of values
        // follows its start.
        let Some(rows) = rows.filter(|_| whole) else { return self.fill_run::<ROWS>(index, block) };
        let panel = &mut self.panels[block * self.step + index * 9 * ROWS..][..9 * ROWS];
        let (lines, last) = panel.split_at_mut(8 * ROWS);
        let mut values = [[0.0; 8]; 8];
        for j in 0..ROWS {
            values[j].copy_from_slice(&rows[j][..8]);
            last[j] = rows[j][8];
        }
        let lines = lines.as_chunks_mut::<ROWS>().0;
        for (line, column) in lines.iter_mut().zip(self.shuffles.transpose(values)) {
            line.copy_from_slice(&column[..ROWS]);
        }
    }

    /// Fills the panel of one run of weights.
    #[inline(always)]
    fn fill_run<const ROWS: usize>(&mut self, index: usize, block: usize) {
        let &mut Self { weights, order, offsets, run, step, .. } = self;
        let first = (self.blocks.start + block) * ROWS;
        let offset = offsets[index * run];
        let mut rows = [weights; ROWS];
        for j in 0..ROWS {
            // Surplus rows of the last block repeat the last output.
            let start = (first + j).min(order.outputs - 1) * order.output_step;
            rows[j] = &weights[start + offset..][..run];
        }
        let panel = &mut self.panels[block * step + index * run * ROWS..][..run * ROWS];
        let (whole, rest) = panel.as_chunks_mut::<ROWS>().0.as_chunks_mut::<8>();
        for (index, lines) in whole.iter_mut().enumerate() {
            let mut values = [[0.0; 8]; 8];
            for j in 0..ROWS {
                values[j].copy_from_slice(&rows[j][index * 8..][..8]);
            }
            for (line, column) in lines.iter_mut().zip(self.shuffles.transpose(values)) {
                line.copy_from_slice(&column[..ROWS]);
            }
        }
        let first = whole.len() * 8;
        for (i, line) in rest.iter_mut().enumerate() {
            for j in 0..ROWS {
                line[j] = rows[j][first + i];
            }
        }
    }
}

struct InterleaveRows<'a, const ROWS: usize>(Interleave<'a>);

impl<const ROWS: usize> WithSimd for InterleaveRows<'_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let job = &mut self.0;
        let (runs, blocks) = (job.offsets.len() / job.run, job.blocks.len());
        // Weights are read in memory order.
        if job.order.output_step < job.order.input_step {
            for index in 0..runs {
                for block in 0..blocks {
                    match (job.run, job.order.output_step) {
                        (9, 9) => job.window::<ROWS, 9>(index, block),
                        (9, 27) => job.window::<ROWS, 27>(index, block),
                        _ => job.fill_run::<ROWS>(index, block),
                    }
                }
            }
        } else {
            for block in 0..blocks {
                for index in 0..runs {
                    job.fill_run::<ROWS>(index, block);
                }
            }
        }
    }
}
