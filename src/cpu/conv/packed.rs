//! Forward pass and input gradient as a product of packed operands: every value of the source is
//! copied once for each tap (of height and width) that reads it, in the order in which the inner
//! loop reads it, a few input channels at a time.
//!
//! No two tasks write the same value, none depends on another's result, and every output is summed
//! in a fixed order, so the result is bitwise independent of the number of threads.

use rayon::prelude::*;

use super::axis::{Axis, Phase, Tap};
use super::chunk::{Chunk, ChunkWeights, Weights};
use super::cut::{Cut, Group, Rows};
use super::finish::Target;
use super::kernel::{LANES, rows_at_once};
use super::layout::{Layout, View};
use super::panels::{Panels, WeightOrder};
use super::product::{Pack, Part, Product};
use super::scratch::{with_scratch, with_shared_scratch};
use super::share;
use super::stage::Source;

/// Steps of the sum per chunk: few enough for their sources to stay in the first-level cache while
/// the sums of all output channels are computed.
const DEPTH: usize = 384;

/// Number of packed source values that threads share between two synchronisations. More values mean
/// fewer waits; a mebibyte fits in a shared cache together with the weights.
const SHARED_VALUES: usize = 1 << 18;

/// Up to this many groups, the weights are reordered separately for each group.
const FEW_GROUPS: usize = 2;

/// The forward pass or the input gradient of one convolution.
pub(super) struct Packed<'a> {
    axes: &'a [Axis; 3],
    order: &'a WeightOrder,
    source: Source<'a>,
    /// Phases that have taps.
    phases: Vec<PhaseViews<'a>>,
    /// Time taps in use.
    taps: Vec<usize>,
    cut: Cut,
    /// Number of input channels per chunk.
    chunk: usize,
    /// Source times that some output reads; a single placeholder where a site has only one time.
    frames: Vec<usize>,
    /// For each time of a site, its time taps (as indices into `taps`) and the frames (as indices
    /// into `frames`) that they read.
    times: Vec<Vec<(usize, usize)>>,
}

/// A pair of phases of height and width.
struct PhaseViews<'a> {
    phase: [&'a Phase; 2],
    /// Views that its taps read.
    views: Vec<View>,
}

impl<'a> Packed<'a> {
    /// Plans the computation for these axes, weights and source.
    pub(super) fn new(
        axes: &'a [Axis; 3],
        clips: usize,
        order: &'a WeightOrder,
        source: Source<'a>,
    ) -> Self {
        let [t, h, w] = axes;
        let [kt, ..] = order.kernel;
        let pairs = h.phases.iter().flat_map(|h| w.phases.iter().map(move |w| [h, w]));
        let idle = |phase: &[&Phase; 2]| phase.iter().any(|axis| axis.taps.is_empty());
        let views = |phase: [&'a Phase; 2]| {
            let [ph, pw] = phase;
            let view = |h: &Tap, across: &Tap| View {
                plane: h.plane * w.planes.len() + across.plane,
                down: h.shift,
                right: across.shift,
            };
            let taps = ph.taps.iter().flat_map(|h| pw.taps.iter().map(move |w| view(h, w)));
            PhaseViews { phase, views: taps.collect() }
        };
        let phases: Vec<_> = pairs.filter(|phase| !idle(phase)).map(views).collect();
        let reached: Vec<_> = (0..t.output).flat_map(|time| t.taps_of(time)).collect();
        let taps: Vec<_> =
            (0..kt).filter(|tap| reached.iter().any(|(used, _)| used == tap)).collect();
        let steps = kt * phases.iter().map(|phase| phase.views.len()).max().unwrap_or(1);
        let most = (DEPTH / steps).max(1);
        let chunk = order.inputs.div_ceil(order.inputs.div_ceil(most));
        let cut = Cut::new(axes, clips, kt, chunk + order.outputs);
        let (mut frames, mut times) = (vec![0], vec![vec![(0, 0)]]);
        if cut.is_in_time() {
            let used = |frame: &usize| reached.iter().any(|(_, source)| source == frame);
            frames = (0..t.source).filter(used).collect();
            let find = |(tap, source): (usize, usize)| {
                let tap = taps.iter().position(|&used| used == tap);
                let frame = frames.iter().position(|&frame| frame == source);
                tap.zip(frame).expect("`taps` and `frames` hold everything that some output reads")
            };
            let all = |time| t.taps_of(time).into_iter().map(find).collect();
            times = (0..t.output).map(all).collect();
        }
        Self { axes, order, source, phases, taps, cut, chunk, frames, times }
    }

    /// Computes all outputs `[clips, outputs, T, H, W]`.
    pub(super) fn run(&self, weights: &[f32], output: &mut [f32]) {
        if self.taps.is_empty() {
            return output.fill(0.0); // All taps fall into the padding.
        }
        let groups = self.cut.groups();
        let phases: Vec<_> = self.phases.iter().map(|phase| phase.phase).collect();
        let panels = Panels::new(weights, self.order, &phases, self.taps.clone());
        // For few groups, tasks reorder the weights in cache, which is cheaper than in memory.
        if groups.len() <= FEW_GROUPS {
            return self.run_groups(&groups, Weights { panels: &panels, prepared: None }, output);
        }
        with_shared_scratch(panels.total_len(), |prepared| {
            panels.fill_all(prepared);
            let weights = Weights { panels: &panels, prepared: Some(prepared) };
            self.run_groups(&groups, weights, output);
        });
    }

    fn run_groups(&self, groups: &[Group], weights: Weights, output: &mut [f32]) {
        let channels = self.order.outputs;
        let height = rows_at_once();
        // With few groups, their channels are split into tasks, whose common sources are packed
        // first.
        let threads = rayon::current_num_threads();
        let shared = groups.len() < share::min_tasks(threads);
        let block = match shared {
            true => share::channels_of_a_task(channels, height, threads),
            false => channels,
        };
        let tasks = self.cut.split(self.axes, channels, block, output);
        if !shared {
            groups.par_iter().zip(tasks).for_each(|(group, tasks)| {
                let layout = self.layout(group);
                for rows in tasks {
                    self.run_in_one_task(&layout, &weights, rows);
                }
            });
            return;
        }
        for (group, tasks) in groups.iter().zip(tasks) {
            self.run_in_tasks(&self.layout(group), &weights, block / height, tasks);
        }
    }

    fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let (chunk, inputs) = (self.chunk, self.order.inputs);
        let chunk = move |first| Chunk { first, count: chunk.min(inputs - first) };
        (0..inputs).step_by(self.chunk).map(chunk)
    }

    /// Computes all channels of a group in one task.
    fn run_in_one_task(&self, layout: &Layout, weights: &Weights, rows: Rows) {
        let blocks = weights.panels.blocks();
        let (sums, staged) = (self.sums(layout, blocks), self.staged(layout));
        with_scratch(sums + staged + layout.block(), |room| {
            let (sums, room) = room.split_at_mut(sums);
            let (staged, packed) = room.split_at_mut(staged);
            let mut own = vec![0.0; weights.own_len(blocks, self.chunk)];
            for chunk in self.chunks() {
                let planes = staged.chunks_exact_mut(layout.channel).enumerate();
                for (index, staged) in planes.take(chunk.count * layout.frames) {
                    self.stage(layout, &chunk, index, staged);
                }
                let weights = weights.of(&chunk, 0..blocks, &mut own);
                for block in 0..layout.group.blocks.len() {
                    self.pack(layout, chunk.count, block, staged, packed);
                    self.multiply(layout, &chunk, block, packed, &weights, sums);
                }
            }
            self.finish(layout, sums, rows);
        });
    }

    /// Computes the channels of a group in several tasks of `blocks` blocks each. The sources are
    /// packed once for all tasks, several chunks at a time if these are small.
    fn run_in_tasks(
        &self,
        layout: &Layout,
        weights: &Weights,
        blocks: usize,
        mut tasks: Vec<Rows>,
    ) {
        let chunks: Vec<Chunk> = self.chunks().collect();
        let several = (SHARED_VALUES / layout.chunk()).clamp(1, chunks.len());
        let (sums, staged) = (self.sums(layout, blocks), self.staged(layout));
        with_shared_scratch(sums * tasks.len() + several * (staged + layout.chunk()), |room| {
            let (all, room) = room.split_at_mut(sums * tasks.len());
            let (all_staged, all_packed) = room.split_at_mut(several * staged);
            for chunks in chunks.chunks(several) {
                let planes = all_staged.par_chunks_exact_mut(layout.channel).enumerate();
                planes.for_each(|(index, plane)| {
                    let in_chunk = self.chunk * layout.frames;
                    let (chunk, index) = (chunks.get(index / in_chunk), index % in_chunk);
                    if let Some(chunk) = chunk.filter(|chunk| index < chunk.count * layout.frames) {
                        self.stage(layout, chunk, index, plane);
                    }
                });
                let packs = all_packed.par_chunks_exact_mut(layout.block()).enumerate();
                packs.for_each(|(index, packed)| {
                    let in_chunk = layout.group.blocks.len();
                    let (index, block) = (index / in_chunk, index % in_chunk);
                    if let Some(chunk) = chunks.get(index) {
                        let staged = &all_staged[index * staged..][..staged];
                        self.pack(layout, chunk.count, block, staged, packed);
                    }
                });
                let packed = || all_packed.chunks_exact(layout.chunk());
                all.par_chunks_exact_mut(sums).enumerate().for_each(|(task, sums)| {
                    let first = task * blocks;
                    let blocks = first..(first + blocks).min(weights.panels.blocks());
                    with_scratch(weights.own_len(blocks.len(), self.chunk), |own| {
                        for (chunk, packed) in chunks.iter().zip(packed()) {
                            let weights = weights.of(chunk, blocks.clone(), own);
                            for (block, x) in packed.chunks_exact(layout.block()).enumerate() {
                                self.multiply(layout, chunk, block, x, &weights, sums);
                            }
                        }
                    });
                });
            }
            let sums = all.par_chunks_exact(sums).zip(&mut tasks);
            sums.for_each(|(sums, rows)| self.finish(layout, sums, std::mem::take(rows)));
        });
    }

    fn layout<'g>(&self, group: &'g Group) -> Layout<'g> {
        let views: Vec<_> = self.phases.iter().map(|phase| &phase.views[..]).collect();
        let in_time = self.cut.is_in_time().then_some(&self.frames[..]);
        Layout::new(self.axes, &self.source, &views, in_time, self.chunk, group)
    }

    /// Number of values of a staged chunk.
    fn staged(&self, layout: &Layout) -> usize {
        self.chunk * layout.frames * layout.channel
    }

    /// Stages one channel of a chunk at one time; `index` is its index in `[channels, frames]`.
    fn stage(&self, layout: &Layout, chunk: &Chunk, index: usize, staged: &mut [f32]) {
        let row = self.axes[2].positions();
        let (channel, frame) = (chunk.first + index / layout.frames, index % layout.frames);
        let mut start = 0;
        for (s, site) in layout.group.sites.iter().enumerate() {
            let time = layout.site_times.get(s).copied().unwrap_or(self.frames[frame]);
            if self.source.is_plain() {
                let from = self.source.plain(site, time) + channel * self.source.plain_channel();
                let count = (site.to - site.from) * row;
                staged[start..][..count].copy_from_slice(&self.source.data()[from..][..count]);
                start += count;
            } else {
                self.source.stage_shifted(site, channel, time, layout.area, start, staged);
                start += layout.site;
            }
        }
    }

    /// Packs a block of columns of a staged chunk, into
    /// `[phases, frames, channels, views, columns]`.
    fn pack(
        &self,
        layout: &Layout,
        count: usize,
        block: usize,
        staged: &[f32],
        packed: &mut [f32],
    ) {
        let (_, columns) = layout.group.blocks[block];
        let rows = &layout.rows[block];
        for (phase, views) in layout.views.iter().enumerate() {
            for frame in 0..layout.frames {
                let packed = &mut packed[layout.start(phase, frame)..][..layout.lengths[phase]];
                let source = &staged[frame * layout.channel..];
                let pitch = layout.frames * layout.channel;
                Pack { source, channels: count, pitch, views, rows, packed, columns }.run();
            }
        }
    }

    /// Distance between the rows of sums, each `[times, width]`.
    fn pitch(&self, layout: &Layout) -> usize {
        self.times.len() * layout.group.width + LANES
    }

    /// Number of values in the sums `[phases, channels, …]` of `blocks` blocks of output channels.
    fn sums(&self, layout: &Layout, blocks: usize) -> usize {
        self.phases.len() * blocks * rows_at_once() * self.pitch(layout)
    }

    /// Adds a chunk to the sums of a block of columns.
    fn multiply(
        &self,
        layout: &Layout,
        chunk: &Chunk,
        block: usize,
        x: &[f32],
        weights: &ChunkWeights,
        sums: &mut [f32],
    ) {
        let (column, columns) = layout.group.blocks[block];
        let pitch = self.pitch(layout);
        let lines = sums.len() / self.phases.len();
        let mut parts = Vec::with_capacity(self.taps.len());
        for (phase, views) in layout.views.iter().enumerate() {
            for (time, taps) in self.times.iter().enumerate() {
                parts.clear();
                parts.extend(taps.iter().map(|&(tap, frame)| Part {
                    x: layout.start(phase, frame),
                    weight: weights.offsets[phase] + tap * weights.tap_strides[phase],
                }));
                let offset = phase * lines + time * layout.group.width + column;
                for b in 0..weights.blocks {
                    Product {
                        x,
                        weights: &weights.values[b * weights.block_strides[phase]..],
                        parts: &parts,
                        steps: chunk.count * views.len(),
                        sums: &mut sums[offset + b * rows_at_once() * pitch..],
                        pitch,
                        columns,
                        fresh: chunk.first == 0,
                    }
                    .run();
                }
            }
        }
    }

    /// Writes the sums of some channels to the output.
    fn finish(&self, layout: &Layout, sums: &[f32], mut rows: Rows) {
        let [_, h, w] = self.axes;
        let (row, sites) = (w.positions(), &layout.group.sites);
        let pitch = self.pitch(layout);
        let lines = sums.len() / self.phases.len().max(1);
        let per_channel = sites.len() * self.times.len();
        let mut starts = Vec::with_capacity(sites.len());
        let mut start = 0;
        for site in sites {
            starts.push(start);
            start += (site.to - site.from) * row;
        }
        let idle = self.phases.len() < h.phases.len() * w.phases.len();
        for (index, target) in rows.iter_mut().enumerate() {
            let (channel, rest) = (index / per_channel, index % per_channel);
            let (time, site) = (rest / sites.len(), rest % sites.len());
            let piece = &sites[site];
            let target =
                &mut Target { axes: [h, w], piece, row, position_stride: 1, values: target };
            if idle {
                target.values.fill(0.0);
            }
            for (phase, views) in self.phases.iter().enumerate() {
                let line = phase * lines + channel * pitch + time * layout.group.width;
                target.put(views.phase, &sums[line + starts[site]..]);
            }
        }
    }
}
