//! The common part of the weight-gradient algorithms: a sum over positions for every pair of an
//! input and an output channel.
//!
//! dy is prepared in panels of output channels, for a batch of units of positions at a time; then
//! tasks, one per block of input channels, add up those units. If there are too few blocks for the
//! cores, the positions are split as well, into parts that are added up in order afterwards. The
//! split depends on sizes alone, so the result is bitwise independent of the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{Correlate, LANES, TAPS, taps_at_once};
use super::scratch::with_shared_scratch;
use super::shape::ConvShape;

/// Minimum number of tasks to aim for, so that many cores have work.
const TASKS: usize = 16;

/// Values of dy per batch: few enough for the last-level cache.
const BATCH: usize = 1 << 20;

/// One panel of dy's channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    /// First channel, which is also the first column of the sums.
    pub first: usize,
    /// Number of channels without padding.
    pub channels: usize,
    /// Width in whole vectors, one of [`super::kernel::panel_widths`].
    pub width: usize,
}

/// An algorithm for the weight gradient.
pub(super) trait Correlation: Sync {
    /// Number of units that the positions are split into.
    fn units(&self) -> usize;

    /// Number of values of a unit of dy per output channel.
    fn depth(&self) -> usize;

    /// Number of sums per pair of channels.
    fn sums(&self) -> usize;

    /// Target number of input channels per task.
    fn block(&self) -> usize;

    /// Writes a panel `[depth, width]` of a unit of dy.
    fn prepare(&self, unit: usize, panel: Panel, target: &mut [f32]);

    /// Adds consecutive units to the sums of some input channels, panel by panel. `dy` holds the
    /// prepared panels of these units in order.
    fn sum(&self, inputs: Range<usize>, units: Range<usize>, dy: &[f32], sums: &mut [f32]);

    /// Writes a panel of the sums of `inputs` channels to the lines `[inputs, kt, kh, kw]` of the
    /// gradient, one per output channel.
    fn put(&self, inputs: usize, panel: Panel, sums: &[f32], lines: &mut [&mut [f32]]);
}

/// A block of input channels.
struct Task<'a> {
    inputs: Range<usize>,
    /// Lines of dw of these channels, one per output channel.
    lines: Vec<&'a mut [f32]>,
    /// Sums of these channels over each part of the positions.
    parts: Vec<&'a mut [f32]>,
}

/// Splits output channels into panels.
pub(super) fn panels(channels: usize, widths: &[usize]) -> Vec<Panel> {
    let mut first = 0;
    let panel = |&width: &usize| {
        let panel = Panel { first, channels: width.min(channels - first), width };
        first += width;
        panel
    };
    widths.iter().map(panel).collect()
}

/// Computes `dw` `[K, C, kt, kh, kw]` with `algorithm`, for the output channels in `panels`.
pub(super) fn run(
    algorithm: &impl Correlation,
    shape: &ConvShape,
    panels: &[Panel],
    dw: &mut [f32],
) {
    let columns: usize = panels.iter().map(|panel| panel.width).sum();
    let room = algorithm.depth() * columns;
    let units = algorithm.units();
    let per_batch = (BATCH / room).clamp(1, units);
    let block = algorithm.block().min(shape.in_channels);
    let block = shape.in_channels.div_ceil(shape.in_channels.div_ceil(block));
    let blocks = shape.in_channels.div_ceil(block);
    let parts = TASKS.div_ceil(blocks).min(per_batch);
    let batches = units.div_ceil(per_batch);

    let all: usize = shape.in_channels * algorithm.sums() * columns * parts;
    with_shared_scratch(per_batch * room + all, |scratch| {
        let (prepared, mut rest) = scratch.split_at_mut(per_batch * room);
        let mut tasks: Vec<Task> = (0..shape.in_channels)
            .step_by(block)
            .map(|start| Task {
                inputs: start..(start + block).min(shape.in_channels),
                lines: Vec::with_capacity(shape.out_channels),
                parts: Vec::with_capacity(parts),
            })
            .collect();
        let taps: usize = shape.kernel.iter().product();
        for line in dw.chunks_mut(shape.in_channels * taps) {
            for (task, part) in tasks.iter_mut().zip(line.chunks_mut(block * taps)) {
                task.lines.push(part);
            }
        }
        for task in &mut tasks {
            for _ in 0..parts {
                let (sums, others) =
                    rest.split_at_mut(task.inputs.len() * algorithm.sums() * columns);
                rest = others;
                task.parts.push(sums);
            }
        }
        for batch in 0..batches {
            let first = batch * per_batch;
            let now = per_batch.min(units - first);
            let mut targets = Vec::with_capacity(now * panels.len());
            for (unit, mut rest) in (first..first + now).zip(prepared.chunks_exact_mut(room)) {
                for &panel in panels {
                    let (target, others) = rest.split_at_mut(algorithm.depth() * panel.width);
                    rest = others;
                    targets.push((unit, panel, target));
                }
            }
            targets
                .into_par_iter()
                .for_each(|(unit, panel, target)| algorithm.prepare(unit, panel, target));
            let prepared = &*prepared;
            tasks.par_iter_mut().for_each(|Task { inputs, lines, parts: sums }| {
                sums.par_iter_mut().enumerate().for_each(|(part, sums)| {
                    if batch == 0 {
                        sums.fill(0.0);
                    }
                    let (from, to) = (part * now / parts, (part + 1) * now / parts);
                    let dy = &prepared[from * room..to * room];
                    algorithm.sum(inputs.clone(), first + from..first + to, dy, sums);
                });
                if batch + 1 == batches {
                    let (total, others) =
                        sums.split_first_mut().expect("a task has at least one part");
                    for other in others {
                        total.iter_mut().zip(&**other).for_each(|(total, sum)| *total += *sum);
                    }
                    let each = inputs.len() * algorithm.sums();
                    for &panel in panels {
                        let sums = &total[panel.first * each..][..panel.width * each];
                        let lines = &mut lines[panel.first..][..panel.channels];
                        algorithm.put(inputs.len(), panel, sums, lines);
                    }
                }
            });
        }
    });
}

/// [`Correlate::run`] for any number of taps.
pub(super) fn correlate(work: Correlate) {
    let Correlate { x, mut starts, pitch, row, dy, width, mut sums } = work;
    while !starts.is_empty() {
        let taps = taps_at_once(width, starts.len());
        let count = taps.min(starts.len());
        let (group, others) = starts.split_at(count);
        let (now, rest) = sums.split_at_mut(count * width);
        (starts, sums) = (others, rest);
        if count == taps {
            Correlate { x, starts: group, pitch, row, dy, width, sums: now }.run();
        } else {
            // The last group may have too few taps; surplus sums are discarded.
            let mut starts = [group[0]; TAPS];
            starts[..count].copy_from_slice(group);
            let starts = &starts[..taps];
            let mut spare = [0.0; TAPS * 4 * LANES];
            let spare = &mut spare[..taps * width];
            spare[..now.len()].copy_from_slice(now);
            Correlate { x, starts, pitch, row, dy, width, sums: &mut *spare }.run();
            now.copy_from_slice(&spare[..now.len()]);
        }
    }
}
