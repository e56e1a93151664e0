//! Convolutions with 3×3 taps within the plane and stride 1, by Winograd's F(2×2, 3×3): 16 products
//! per tile of four outputs instead of 36.
//!
//! Tiles of the source and the windows are transformed (`transforms`), each of the 16 values of a
//! transformed tile goes through a matrix product over channels and time taps, and the sums are
//! transformed back. A task computes some channels of some rows of tiles at all times; it keeps the
//! transformed frames that its time taps still need. The partition into tasks affects no sum, so
//! the result is bitwise independent of the number of threads.

mod cut;
mod gradient_transforms;
mod lines;
mod transforms;
mod weight_gradient;

use rayon::prelude::*;

use super::axis::{Axis, Phase};
use super::gather::Gather;
use super::kernel::LANES;
use super::panels::{Panels, WeightOrder};
use super::product::{Part, Product};
use super::scratch::{with_scratch, with_shared_scratch};
use super::share;
use cut::{Group, Rows};
use lines::Lines;
use transforms::{Interleave, Outputs, TILE, Windows};
pub(super) use weight_gradient::WeightWinograd;

/// Target number of sums that are transformed back together.
const SUMS: usize = 1 << 16;

/// Cost of transforming a window, in columns of the products.
const WINDOW: usize = 80;

/// Cost of transforming tiles and sums, in channels of the products.
const CHANNELS: usize = 16;

/// Minimum number of outputs per channel for this algorithm. Its rounding errors are two to three
/// times those of the direct sum over all taps, which batch norm over few values would amplify in
/// the gradients.
const MIN_OUTPUTS: usize = 3000;

/// Returns whether an axis has three taps and stride 1.
fn has_window(axis: &Axis) -> bool {
    let shifts = |phase: &Phase| phase.taps.len() == 3 && axis.planes.len() == 1;
    axis.output_step * axis.source_step == 1 && axis.reach == 2 && shifts(&axis.phases[0])
}

/// Returns the index of the tap, in the order of the kernel, at each position of the window.
fn window([h, w]: [&Axis; 2]) -> [[usize; 3]; 3] {
    let mut taps = [[0; 3]; 3];
    for (i, down) in h.phases[0].taps.iter().enumerate() {
        for (j, right) in w.phases[0].taps.iter().enumerate() {
            taps[down.shift][right.shift] = i * 3 + j;
        }
    }
    taps
}

/// The forward pass or the input gradient of one convolution.
pub(super) struct Winograd<'a> {
    axes: &'a [Axis; 3],
    order: &'a WeightOrder,
    clips: usize,
    /// Whether the kernel does not extend along time, so that the frames of all times are computed
    /// side by side.
    flat: bool,
    /// Number of rows of tiles, and of tiles per row.
    tiles: [usize; 2],
    /// Time taps of each output time, with the source time that each reads.
    taps: Vec<Vec<(usize, usize)>>,
    /// Time taps that reach any output.
    times: Vec<usize>,
}

impl<'a> Winograd<'a> {
    /// Plans the computation; `None` unless the convolution has 3×3 taps and stride 1 within the
    /// plane.
    pub(super) fn new(gather: &'a Gather) -> Option<Self> {
        let [t, h, w] = &gather.axes;
        if !has_window(h) || !has_window(w) {
            return None;
        }
        let taps: Vec<_> = (0..t.output).map(|time| t.taps_of(time)).collect();
        let mut times: Vec<_> = taps.iter().flatten().map(|(tap, _)| *tap).collect();
        times.sort_unstable();
        times.dedup();
        Some(Self {
            axes: &gather.axes,
            order: &gather.order,
            clips: gather.clips,
            flat: t.is_plain(),
            tiles: [h.output.div_ceil(2), w.output.div_ceil(2)],
            taps,
            times,
        })
    }

    /// Returns whether this is faster than the direct sum over all taps, by a cost model fitted to
    /// measurements, and accurate enough.
    pub(super) fn is_worthwhile(&self) -> bool {
        let [_, h, w] = self.axes;
        let pairs: usize = self.taps.iter().map(Vec::len).sum();
        let [rows, wide] = self.tiles;
        let columns = (self.clips * pairs * rows * wide).next_multiple_of(LANES);
        let (inputs, outputs) = (self.order.inputs, self.order.outputs);
        let direct = self.clips * pairs * h.output * w.output * 9;
        let products = TILE * (columns + self.times.len() * WINDOW);
        if self.clips * self.axes[0].output * h.output * w.output < MIN_OUTPUTS {
            return false;
        }
        // The transforms increase the cost of the products by a factor of
        // 1 + CHANNELS/inputs + CHANNELS/outputs.
        let share = inputs * outputs;
        products * (share + CHANNELS * (inputs + outputs)) < direct * share / 10 * 9
    }

    /// Computes all outputs `[clips, outputs, T, H, W]` from a source `[clips, inputs, …]`.
    pub(super) fn run(&self, source: &[f32], weights: &[f32], output: &mut [f32]) {
        let [_, h, w] = self.axes;
        let phases = [[&h.phases[0], &w.phases[0]]];
        let panels = Panels::new(weights, self.order, &phases, self.times.clone());
        let (rows, blocks) = (panels.rows(), panels.blocks());
        let groups = self.groups();
        let block = TILE * self.block(rows);
        with_shared_scratch(blocks * block, |windows| {
            windows.par_chunks_mut(block.max(1)).enumerate().for_each(|(index, windows)| {
                self.windows(&panels, index, windows);
            });
            let windows = &*windows;
            let threads = rayon::current_num_threads();
            // With few groups, each is split into several tasks, all of which transform the
            // sources.
            let tasks = share::min_tasks(threads).div_ceil(groups.len());
            let own = if groups.len() < share::min_tasks(threads) {
                blocks.div_ceil(tasks)
            } else {
                blocks
            };
            let shares = self.split(&groups, own * rows, output);
            let tasks: Vec<_> = shares
                .into_iter()
                .zip(&groups)
                .flat_map(|(shares, group)| {
                    shares.into_iter().enumerate().map(move |(part, lines)| (group, part, lines))
                })
                .collect();
            tasks.into_par_iter().for_each(|(group, part, lines)| {
                let windows = &windows[part * own * block..];
                self.task(group, source, windows, rows, lines);
            });
        });
    }

    /// Distance between the sixteen values of the transformed windows of a block of `rows` outputs.
    /// Like all such distances here, it has an extra cache line, since sixteen addresses whose
    /// distance is a power of two would map to the same cache set.
    fn block(&self, rows: usize) -> usize {
        self.times.len() * self.order.inputs * rows + LANES
    }

    /// Transforms the windows of a block of outputs to `[16, times, inputs, rows]`.
    fn windows(&self, panels: &Panels, block: usize, windows: &mut [f32]) {
        let [_, h, w] = self.axes;
        let taps = window([h, w]);
        let (inputs, rows) = (self.order.inputs, panels.rows());
        let value_stride = self.block(rows);
        with_scratch(inputs * 9 * rows, |panel| {
            for (index, &time) in self.times.iter().enumerate() {
                panels.fill_subset(block, 1, time, 0..inputs, panel);
                let target = &mut windows[index * inputs * rows..];
                Windows { weights: panel, taps, rows, target, value_stride }.run();
            }
        });
    }

    /// Number of planes that are computed side by side in one time step.
    fn planes(&self) -> usize {
        self.clips * if self.flat { self.axes[0].output } else { 1 }
    }

    /// Number of transformed frames that a task keeps.
    fn frames(&self) -> usize {
        if self.flat { 1 } else { self.taps.iter().map(Vec::len).max().unwrap_or(1).max(1) }
    }

    /// Returns the clip and the time of a plane in a time step.
    fn clip_and_time(&self, plane: usize, time: usize) -> (usize, usize) {
        let times = self.axes[0].output;
        if self.flat { (plane / times, plane % times) } else { (plane, time) }
    }

    /// Computes the channels of one task in one group; `windows` starts with the first channel's.
    fn task(&self, group: &Group, source: &[f32], windows: &[f32], rows: usize, mut lines: Rows) {
        let steps = if self.flat { 1 } else { self.axes[0].output };
        let channels = lines.len() / (steps * group.runs.len());
        let blocks = channels.div_ceil(rows);
        let inputs = self.order.inputs;
        let part = self.block(rows);
        // Number of blocks of outputs whose sums are transformed back together.
        let together = (SUMS / (TILE * rows * group.width)).clamp(1, blocks);
        let value_stride = self.value_stride(group);
        let sums_stride = together * rows * group.width + LANES;
        let frame = TILE * value_stride;
        let sizes = [self.frames() * frame, TILE * sums_stride, rows * 4 * group.width];
        with_scratch(sizes.iter().sum(), |room| {
            let (frames, room) = room.split_at_mut(sizes[0]);
            let (sums, outputs) = room.split_at_mut(sizes[1]);
            // Source time whose frame each slot holds.
            let mut held = vec![None; self.frames()];
            for time in 0..steps {
                let flat = [(0, 0)];
                let taps = if self.flat { &flat[..] } else { &self.taps[time] };
                for &(_, from) in taps {
                    if held.contains(&Some(from)) {
                        continue;
                    }
                    let free = |held: &Option<usize>| {
                        held.is_none_or(|held| taps.iter().all(|(_, needed)| *needed != held))
                    };
                    let slot = held.iter().position(free);
                    let slot = slot.expect("there are as many frames as time taps");
                    held[slot] = Some(from);
                    self.transform(group, source, from, &mut frames[slot * frame..][..frame]);
                }
                // Offsets of the frame and of the windows of each tap.
                let part_of = |&(tap, from): &(usize, usize)| {
                    let slot = held.iter().position(|held| *held == Some(from));
                    let time = self.times.iter().position(|&time| time == tap);
                    Part {
                        x: slot.expect("every needed frame is held") * frame,
                        weight: time.expect("every tap has transformed windows") * inputs * rows,
                    }
                };
                let starts: Vec<Part> = taps.iter().map(part_of).collect();
                let mut parts = starts.clone();
                for first in (0..blocks).step_by(together) {
                    let now = first..(first + together).min(blocks);
                    for value in 0..TILE {
                        for &(column, columns) in &group.blocks {
                            let x = value * value_stride + self.panel(group, column);
                            for block in now.clone() {
                                let weight = (block * TILE + value) * part;
                                for (part, start) in parts.iter_mut().zip(&starts) {
                                    part.x = start.x + x;
                                    part.weight = start.weight + weight;
                                }
                                let line =
                                    value * sums_stride + (block - first) * rows * group.width;
                                Product {
                                    x: frames,
                                    weights: windows,
                                    parts: &parts,
                                    steps: inputs,
                                    sums: &mut sums[line + column..],
                                    pitch: group.width,
                                    columns,
                                    fresh: true,
                                }
                                .run();
                            }
                        }
                    }
                    let columns = group.width;
                    for block in now {
                        let channels = block * rows..((block + 1) * rows).min(channels);
                        // Transforms all channels before writing any of them, since reading values
                        // right after writing them stalls.
                        for (channel, outputs) in
                            channels.clone().zip(outputs.chunks_exact_mut(4 * columns))
                        {
                            let sums = &sums[(channel - first * rows) * columns..];
                            Outputs { sums, value_stride: sums_stride, outputs, columns }.run();
                        }
                        for (channel, outputs) in channels.zip(outputs.chunks_exact(4 * columns)) {
                            let line = (channel * steps + time) * group.runs.len();
                            self.put(group, outputs, &mut lines[line..][..group.runs.len()]);
                        }
                    }
                }
            }
        });
    }

    /// Distance between the 16 values of the transformed tiles. For each value there are blocks of
    /// columns with all inputs each; a block has a spare vector, since whole vectors are written.
    fn value_stride(&self, group: &Group) -> usize {
        self.order.inputs * group.width + group.blocks.len() * LANES
    }

    /// Returns the offset of the block of columns that starts at `column`, within one value.
    fn panel(&self, group: &Group, column: usize) -> usize {
        let before = group.blocks.iter().take_while(|block| block.0 < column).count();
        self.order.inputs * column + before * LANES
    }

    /// Transforms the tiles of a group at a source time.
    fn transform(&self, group: &Group, source: &[f32], time: usize, frame: &mut [f32]) {
        let [t, h, w] = self.axes;
        let [_, wide] = self.tiles;
        let value_stride = self.value_stride(group);
        let most = group.runs.iter().map(|run| run.to - run.from).max().unwrap_or(0);
        with_scratch(Lines::room(most, wide), |room| {
            let mut lines = Lines::new([h, w], wide, room);
            for input in 0..self.order.inputs {
                let mut column = 0;
                let mut blocks = group.blocks.iter();
                let mut block = blocks.next();
                for run in &group.runs {
                    let (clip, time) = self.clip_and_time(run.plane, time);
                    let plane = (clip * self.order.inputs + input) * t.source + time;
                    lines.read(&source[plane * h.source * w.source..], run.from..run.to);
                    for row in run.from..run.to {
                        // A row of tiles may continue in the next block.
                        let mut first = 0;
                        while first < wide {
                            let &(from, width) = block.expect("blocks hold all columns");
                            let count = (wide - first).min(from + width - column);
                            let target = self.panel(group, from) + input * width + column - from;
                            let target = &mut frame[target..];
                            lines.tiles(row, first..first + count, target, value_stride);
                            first += count;
                            column += count;
                            if column == from + width {
                                block = blocks.next();
                            }
                        }
                    }
                }
            }
        });
    }

    /// Writes a channel's outputs `[4, columns]` to its rows, one slice per run.
    fn put(&self, group: &Group, outputs: &[f32], rows: &mut [&mut [f32]]) {
        let w = self.axes[2].output;
        let [_, wide] = self.tiles;
        let mut column = 0;
        for (run, lines) in group.runs.iter().zip(rows) {
            let outputs = &outputs[column..];
            Interleave { outputs, pitch: group.width, tiles: wide, width: w, lines }.run();
            column += (run.to - run.from) * wide;
        }
    }
}

#[cfg(test)]
mod tests;
