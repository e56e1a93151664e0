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

use rayon::prelude::*;

use super::axis::Phase;
use super::kernel::rows_at_once;

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

    fn blocks(&self) -> usize {
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
            panels.par_chunks_mut(length.max(1)).enumerate().for_each(|(index, panel)| {
                let (block, time) = (index / self.times.len(), index % self.times.len());
                self.fill(phase, block, self.times[time], 0..self.order.inputs, panel);
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
            for block in first..first + blocks {
                let (panel, others) = rest.split_at_mut(self.len(phase, inputs.len()));
                rest = others;
                self.fill(phase, block, time, inputs.clone(), panel);
            }
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

    /// Makes one panel of some inputs.
    fn fill(
        &self,
        phase: usize,
        block: usize,
        time: usize,
        inputs: Range<usize>,
        panel: &mut [f32],
    ) {
        let first = block * self.rows;
        let (taps, places) = &self.phases[phase];
        let places = &places[inputs.start * taps..inputs.end * taps];
        match self.rows {
            8 => self.fill_rows::<8>(first, time, places, panel),
            _ => self.fill_rows::<6>(first, time, places, panel),
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
