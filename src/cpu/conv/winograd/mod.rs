//! Convolutions whose window has 3×3 taps along the plane and moves by one, by Winograd's
//! F(2×2, 3×3): 16 products for a tile of four outputs in place of 36.
//!
//! Tiles of the source and the windows are transformed (`transforms`), each of the 16 values of a
//! transformed tile is a matrix product over channels and time taps, and the sums are transformed
//! back. A task makes some channels of some rows of tiles at all times; it keeps the transformed
//! frames that its time taps still need. How the work is cut changes no sum, so the result has the
//! same bits whatever the number of threads.

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

/// Values of sums that a task aims at.
const SUMS: usize = 1 << 16;

/// What transforming a window costs, in columns of the products.
const WINDOW: usize = 80;

/// What transforming tiles and sums costs, in channels of the products.
const CHANNELS: usize = 16;

/// The fewest outputs of a channel for which this is taken. It rounds two to three times as much as
/// summing over all taps, which batch norm over few values would amplify in the gradients.
const FEWEST: usize = 3000;

/// Whether an axis has three taps and moves by one.
fn has_window(axis: &Axis) -> bool {
    let shifts = |phase: &Phase| phase.taps.len() == 3 && axis.planes.len() == 1;
    axis.output_step * axis.source_step == 1 && axis.reach == 2 && shifts(&axis.phases[0])
}

/// Which tap of the window, in the order of the kernel, is at each place of it.
fn window([h, w]: [&Axis; 2]) -> [[usize; 3]; 3] {
    let mut taps = [[0; 3]; 3];
    for (i, down) in h.phases[0].taps.iter().enumerate() {
        for (j, right) in w.phases[0].taps.iter().enumerate() {
            taps[down.shift][right.shift] = i * 3 + j;
        }
    }
    taps
}

/// One direction of one convolution.
pub(super) struct Winograd<'a> {
    axes: &'a [Axis; 3],
    order: &'a WeightOrder,
    clips: usize,
    /// Whether the frames of all times are computed side by side, as no tap looks along time.
    flat: bool,
    /// Rows of tiles, and tiles of a row.
    tiles: [usize; 2],
    /// Time taps of each output time, with the source time each reads.
    taps: Vec<Vec<(usize, usize)>>,
    /// Time taps that reach any output.
    times: Vec<usize>,
}

impl<'a> Winograd<'a> {
    /// The plan for a convolution that has such a window; else none.
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

    /// Whether this takes less time than summing over all taps, as measured, and is exact enough.
    pub(super) fn pays(&self) -> bool {
        let [_, h, w] = self.axes;
        let pairs: usize = self.taps.iter().map(Vec::len).sum();
        let [rows, wide] = self.tiles;
        let columns = (self.clips * pairs * rows * wide).next_multiple_of(LANES);
        let (inputs, outputs) = (self.order.inputs, self.order.outputs);
        let direct = self.clips * pairs * h.output * w.output * 9;
        let products = TILE * (columns + self.times.len() * WINDOW);
        if self.clips * self.axes[0].output * h.output * w.output < FEWEST {
            return false;
        }
        // 1 + c/inputs + c/outputs times the products.
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
            // Few groups: each has several tasks, and each task transforms the sources.
            let tasks = share::wanted(threads).div_ceil(groups.len());
            let own =
                if groups.len() < share::wanted(threads) { blocks.div_ceil(tasks) } else { blocks };
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

    /// From one of the sixteen parts of the windows of a block of `rows` outputs to the next. Like
    /// all such distances here it is a cache line more than it need be: sixteen places a power of
    /// two apart would share one set of a cache.
    fn block(&self, rows: usize) -> usize {
        self.times.len() * self.order.inputs * rows + LANES
    }

    /// Transforms the windows of a block of outputs to `[16, times, inputs, rows]`.
    fn windows(&self, panels: &Panels, block: usize, windows: &mut [f32]) {
        let [_, h, w] = self.axes;
        let taps = window([h, w]);
        let (inputs, rows) = (self.order.inputs, panels.rows());
        let apart = self.block(rows);
        with_scratch(inputs * 9 * rows, |panel| {
            for (index, &time) in self.times.iter().enumerate() {
                panels.fill_some(block, 1, time, 0..inputs, panel);
                let target = &mut windows[index * inputs * rows..];
                Windows { weights: panel, taps, rows, target, apart }.run();
            }
        });
    }

    /// Planes that are computed side by side at one time.
    fn planes(&self) -> usize {
        self.clips * if self.flat { self.axes[0].output } else { 1 }
    }

    /// Frames that a task keeps.
    fn frames(&self) -> usize {
        if self.flat { 1 } else { self.taps.iter().map(Vec::len).max().unwrap_or(1).max(1) }
    }

    /// Clip and time of a plane that is computed with those of a time.
    fn place(&self, plane: usize, time: usize) -> (usize, usize) {
        let times = self.axes[0].output;
        if self.flat { (plane / times, plane % times) } else { (plane, time) }
    }

    /// Makes the channels whose windows come first, in one group.
    fn task(&self, group: &Group, source: &[f32], windows: &[f32], rows: usize, mut lines: Rows) {
        let steps = if self.flat { 1 } else { self.axes[0].output };
        let channels = lines.len() / (steps * group.runs.len());
        let blocks = channels.div_ceil(rows);
        let inputs = self.order.inputs;
        let part = self.block(rows);
        // Blocks of outputs whose sums are transformed back together.
        let together = (SUMS / (TILE * rows * group.width)).clamp(1, blocks);
        let (apart, sums_apart) = (self.apart(group), together * rows * group.width + LANES);
        let frame = TILE * apart;
        let sizes = [self.frames() * frame, TILE * sums_apart, rows * 4 * group.width];
        with_scratch(sizes.iter().sum(), |room| {
            let (frames, room) = room.split_at_mut(sizes[0]);
            let (sums, outputs) = room.split_at_mut(sizes[1]);
            // Source time that each frame holds.
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
                // Where the frame of each tap is, and its windows.
                let part_of = |&(tap, from): &(usize, usize)| {
                    let slot = held.iter().position(|held| *held == Some(from));
                    let time = self.times.iter().position(|&time| time == tap);
                    Part {
                        x: slot.expect("a needed frame is held") * frame,
                        weight: time.expect("every tap's windows are made") * inputs * rows,
                    }
                };
                let starts: Vec<Part> = taps.iter().map(part_of).collect();
                let mut parts = starts.clone();
                for first in (0..blocks).step_by(together) {
                    let now = first..(first + together).min(blocks);
                    for value in 0..TILE {
                        for &(column, columns) in &group.blocks {
                            let x = value * apart + self.panel(group, column);
                            for block in now.clone() {
                                let weight = (block * TILE + value) * part;
                                for (part, start) in parts.iter_mut().zip(&starts) {
                                    part.x = start.x + x;
                                    part.weight = start.weight + weight;
                                }
                                let line =
                                    value * sums_apart + (block - first) * rows * group.width;
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
                        // All at first: what is read at once after it was written costs a wait.
                        for (channel, outputs) in
                            channels.clone().zip(outputs.chunks_exact_mut(4 * columns))
                        {
                            let sums = &sums[(channel - first * rows) * columns..];
                            Outputs { sums, apart: sums_apart, outputs, columns }.run();
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

    /// From one value of the transformed tiles to the next: blocks of columns, in each the inputs.
    /// A block has a vector to spare, since whole ones are written.
    fn apart(&self, group: &Group) -> usize {
        self.order.inputs * group.width + group.blocks.len() * LANES
    }

    /// Where a block of columns starts within them.
    fn panel(&self, group: &Group, column: usize) -> usize {
        let before = group.blocks.iter().take_while(|block| block.0 < column).count();
        self.order.inputs * column + before * LANES
    }

    /// Transforms the tiles of a group at a source time.
    fn transform(&self, group: &Group, source: &[f32], time: usize, frame: &mut [f32]) {
        let [t, h, w] = self.axes;
        let [_, wide] = self.tiles;
        let apart = self.apart(group);
        let most = group.runs.iter().map(|run| run.to - run.from).max().unwrap_or(0);
        with_scratch(Lines::room(most, wide), |room| {
            let mut lines = Lines::new([h, w], wide, room);
            for input in 0..self.order.inputs {
                let mut column = 0;
                let mut blocks = group.blocks.iter();
                let mut block = blocks.next();
                for run in &group.runs {
                    let (clip, time) = self.place(run.plane, time);
                    let plane = (clip * self.order.inputs + input) * t.source + time;
                    lines.read(&source[plane * h.source * w.source..], run.from..run.to);
                    for row in run.from..run.to {
                        // A row of tiles may go on in the next block.
                        let mut first = 0;
                        while first < wide {
                            let &(from, width) = block.expect("blocks hold all columns");
                            let count = (wide - first).min(from + width - column);
                            let target = self.panel(group, from) + input * width + column - from;
                            let target = &mut frame[target..];
                            lines.tiles(row, first..first + count, target, apart);
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
