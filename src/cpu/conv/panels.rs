//! The weights in the order in which the inner loops read them.
//!
//! In `[K, C, kt, kh, kw]` the outputs that are computed together are far apart, and
//! in the input gradient the inputs are as well: every step of a sum would read as many cache lines
//! and pages as there are outputs. Put in order before, all weights of a step lie next to each
//! other, and steps follow one another.

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

/// The fewest adjacent weights that are worth taking as a run.
const LONG_RUN: usize = 4;

/// Blocks that are made together, since the weights of an input may lie next to each other.
const TOGETHER: usize = 8;

/// Where a weight is in `[K, C, kt, kh, kw]`, named from the side that is written: forward the
/// outputs are K, in the input gradient they are C.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightOrder {
    /// Channels written.
    pub outputs: usize,
    /// Channels read.
    pub inputs: usize,
    /// Distance between weights of neighbouring outputs.
    pub output_step: usize,
    /// Distance between weights of neighbouring inputs.
    pub input_step: usize,
    /// Taps of the kernel.
    pub kernel: [usize; 3],
}

/// The order of weights: panels of a block of outputs, in each input after input, tap after tap of
/// a phase, and in each of these the outputs of the block.
pub(super) struct Panels<'a> {
    weights: &'a [f32],
    order: &'a WeightOrder,
    /// Outputs of a block.
    rows: usize,
    /// Per phase, how many taps it has, and where the weights of all inputs and taps are from an
    /// output's first one on.
    phases: Vec<(usize, Vec<usize>)>,
    /// Time taps in use.
    times: Vec<usize>,
}

impl<'a> Panels<'a> {
    /// The order for pairs of phases of height and width and the time taps in use.
    pub(super) fn new(
        weights: &'a [f32],
        order: &'a WeightOrder,
        phases: &[[&Phase; 2]],
        times: Vec<usize>,
    ) -> Self {
        let [_, _, kw] = order.kernel;
        let places = |[h, w]: &[&Phase; 2]| {
            let taps = h.taps.iter().flat_map(|h| w.taps.iter().map(move |w| (h, w)));
            let taps: Vec<_> = taps.map(|(h, w)| h.index * kw + w.index).collect();
            let mut places = Vec::with_capacity(order.inputs * taps.len());
            for input in 0..order.inputs {
                places.extend(taps.iter().map(|tap| input * order.input_step + tap));
            }
            (taps.len(), places)
        };
        let phases = phases.iter().map(places).collect();
        Self { weights, order, rows: rows_at_once(), phases, times }
    }

    /// Outputs of a block.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a panel of `inputs` inputs.
    pub(super) fn len(&self, phase: usize, inputs: usize) -> usize {
        inputs * self.phases[phase].0 * self.rows
    }

    /// Blocks of outputs.
    pub(super) fn blocks(&self) -> usize {
        self.order.outputs.div_ceil(self.rows)
    }

    /// Values of all panels.
    pub(super) fn all(&self) -> usize {
        let phases = (0..self.phases.len()).map(|phase| self.len(phase, self.order.inputs));
        phases.sum::<usize>() * self.times.len() * self.blocks()
    }

    /// Makes all panels.
    pub(super) fn fill_all(&self, panels: &mut [f32]) {
        let mut rest = panels;
        for phase in 0..self.phases.len() {
            let length = self.len(phase, self.order.inputs);
            let (panels, others) = rest.split_at_mut(length * self.times.len() * self.blocks());
            rest = others;
            let step = length * self.times.len();
            let part = panels.par_chunks_mut((TOGETHER * step).max(1)).enumerate();
            part.for_each(|(part, panels)| {
                let first = part * TOGETHER;
                let blocks = first..first + panels.len() / step.max(1);
                for (index, &time) in self.times.iter().enumerate() {
                    let panels = &mut panels[index * length..];
                    self.fill(phase, blocks.clone(), step, time, 0..self.order.inputs, panels);
                }
            });
        }
    }

    /// Among all panels, that of a phase's block of outputs under a time tap, from an input on.
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

    /// Makes the panels of some blocks and inputs under a time tap.
    pub(super) fn fill_some(
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

    /// Among panels of `blocks` blocks and `inputs` inputs, that of a phase's block, counted from
    /// the first.
    pub(super) fn find_some<'p>(
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

    /// Values of the panels of some blocks and inputs under every time tap in use.
    pub(super) fn some(&self, blocks: usize, inputs: usize) -> usize {
        let phases = (0..self.phases.len()).map(|phase| self.len(phase, inputs));
        phases.sum::<usize>() * self.times.len() * blocks
    }

    /// Makes the panels of some blocks and inputs under every time tap in use.
    pub(super) fn fill_blocks(
        &self,
        blocks: Range<usize>,
        inputs: Range<usize>,
        panels: &mut [f32],
    ) {
        let mut rest = panels;
        for phase in 0..self.phases.len() {
            let (length, step) = (self.len(phase, inputs.len()), self.step(phase, inputs.len()));
            let (panels, others) = rest.split_at_mut(step * blocks.len());
            rest = others;
            for (index, &time) in self.times.iter().enumerate() {
                let panels = &mut panels[index * length..];
                self.fill(phase, blocks.clone(), step, time, inputs.clone(), panels);
            }
        }
    }

    /// Where the weights of a phase's block under the first time tap in use start, from an input
    /// on, among all panels.
    pub(super) fn place(&self, phase: usize, block: usize, input: usize) -> usize {
        self.place_some(phase, self.blocks(), self.order.inputs)
            + block * self.step(phase, self.order.inputs)
            + self.len(phase, input)
    }

    /// The same for the first block of panels of `blocks` blocks and `inputs` inputs.
    pub(super) fn place_some(&self, phase: usize, blocks: usize, inputs: usize) -> usize {
        let before: usize = (0..phase).map(|phase| self.len(phase, inputs)).sum();
        before * blocks * self.times.len()
    }

    /// From one block to the next, in panels of `inputs` inputs.
    pub(super) fn step(&self, phase: usize, inputs: usize) -> usize {
        self.times.len() * self.len(phase, inputs)
    }

    /// Where the weights are.
    pub(super) fn order(&self) -> &WeightOrder {
        self.order
    }

    /// How many phases.
    pub(super) fn phases(&self) -> usize {
        self.phases.len()
    }

    /// Makes the panels of some inputs for `blocks` blocks from `first` on, `step` values apart.
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
        let (taps, places) = &self.phases[phase];
        let places = &places[inputs.start * taps..inputs.end * taps];
        // Weights that lie next to each other are transposed together.
        let next = places.iter().zip(&places[places.len().min(1)..]);
        let run = next.take_while(|(a, b)| *a + 1 == **b).count() + 1;
        let run = run.min(places.len());
        if run >= LONG_RUN && places.len().is_multiple_of(run) {
            let [_, kh, kw] = self.order.kernel;
            let job = Interleave {
                weights: &self.weights[time * kh * kw..],
                order: self.order,
                places,
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
            let panel = &mut panels[index * step..][..places.len() * self.rows];
            match self.rows {
                8 => self.fill_rows::<8>(block * 8, time, places, panel),
                _ => self.fill_rows::<6>(block * 6, time, places, panel),
            }
        }
    }

    fn fill_rows<const ROWS: usize>(
        &self,
        first: usize,
        time: usize,
        places: &[usize],
        panel: &mut [f32],
    ) {
        let Some(end) = places.iter().max().map(|place| place + 1) else { return };
        let order = self.order;
        let [_, kh, kw] = order.kernel;
        // Rows of one length, so that a position costs one bounds check for all of them.
        let mut rows = [self.weights; ROWS];
        for j in 0..ROWS {
            // Surplus rows of the last block repeat its last one.
            let start = (first + j).min(order.outputs - 1) * order.output_step;
            rows[j] = &self.weights[start + time * kh * kw..][..end];
        }
        for (line, &place) in panel.as_chunks_mut::<ROWS>().0.iter_mut().zip(places) {
            for j in 0..ROWS {
                line[j] = rows[j][place];
            }
        }
    }
}

/// `panels[block · step + place · ROWS + row] = weights[place]` of each output's weights, for places
/// that come in runs of `run`.
struct Interleave<'a> {
    weights: &'a [f32],
    order: &'a WeightOrder,
    places: &'a [usize],
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

    /// A run of nine, where those of neighbouring outputs are `STEP` apart: with lengths that the compiler
    /// knows, input gradients on planes of 7×7 take 0.9 of the time.
    #[inline(always)]
    fn window<const ROWS: usize, const STEP: usize>(&mut self, index: usize, block: usize) {
        let start = self.places[index * 9] + (self.blocks.start + block) * ROWS * STEP;
        let whole = (self.blocks.start + block + 1) * ROWS <= self.order.outputs;
        let rows = self.weights[start..].as_chunks::<STEP>().0.first_chunk::<ROWS>();
        // Without the last row of all weights, where less than a step follows its first.
        let Some(rows) = rows.filter(|_| whole) else { return self.one::<ROWS>(index, block) };
        let panel = &mut self.panels[block * self.step + index * 9 * ROWS..][..9 * ROWS];
        let (lines, last) = panel.split_at_mut(8 * ROWS);
        let mut values = [[0.0; 8]; 8];
        for j in 0..ROWS {
            values[j].copy_from_slice(&rows[j][..8]);
            last[j] = rows[j][8];
        }
        let lines = lines.as_chunks_mut::<ROWS>().0;
        for (line, column) in lines.iter_mut().zip(self.shuffles.turn(values)) {
            line.copy_from_slice(&column[..ROWS]);
        }
    }

    #[inline(always)]
    fn one<const ROWS: usize>(&mut self, index: usize, block: usize) {
        let &mut Self { weights, order, places, run, step, .. } = self;
        let first = (self.blocks.start + block) * ROWS;
        let place = places[index * run];
        let mut rows = [weights; ROWS];
        for j in 0..ROWS {
            // Surplus rows of the last block repeat its last one.
            let start = (first + j).min(order.outputs - 1) * order.output_step;
            rows[j] = &weights[start + place..][..run];
        }
        let panel = &mut self.panels[block * step + index * run * ROWS..][..run * ROWS];
        let (whole, rest) = panel.as_chunks_mut::<ROWS>().0.as_chunks_mut::<8>();
        for (index, lines) in whole.iter_mut().enumerate() {
            let mut values = [[0.0; 8]; 8];
            for j in 0..ROWS {
                values[j].copy_from_slice(&rows[j][index * 8..][..8]);
            }
            for (line, column) in lines.iter_mut().zip(self.shuffles.turn(values)) {
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
        let (runs, blocks) = (job.places.len() / job.run, job.blocks.len());
        // Weights are read in the order in which they lie in memory.
        if job.order.output_step < job.order.input_step {
            for index in 0..runs {
                for block in 0..blocks {
                    match (job.run, job.order.output_step) {
                        (9, 9) => job.window::<ROWS, 9>(index, block),
                        (9, 27) => job.window::<ROWS, 27>(index, block),
                        _ => job.one::<ROWS>(index, block),
                    }
                }
            }
        } else {
            for block in 0..blocks {
                for index in 0..runs {
                    job.one::<ROWS>(index, block);
                }
            }
        }
    }
}
