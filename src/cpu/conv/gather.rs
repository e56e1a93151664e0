//! The computation that the forward pass and the input gradient share: every output gathers the
//! sources under its taps, which are shifted views of one staged plane.
//!
//! No two tasks write the same value, none depends on another's result, and every output is summed
//! in a fixed order, so the result is bitwise independent of the number of threads.

use rayon::prelude::*;

use super::axis::{Axis, Classes, Phase};
use super::finish::Target;
use super::kernel::{Accumulate, BLOCK, LANES};
use super::packed::Packed;
use super::panels::{Panels, WeightOrder};
use super::recipe::Recipe;
use super::scratch::{with_scratch, with_shared_scratch};
use super::share;
use super::stage::{Piece, Source};
use super::tiles::{Group, Rows, Run, Tiles};
use super::winograd::Winograd;

/// Up to this many groups, the weights are reordered separately for each group.
const FEW_GROUPS: usize = 2;

/// Planes up to this size may lie side by side: with 7×7, a fifth of the products would be with the
/// padding. With 14×14 it is a tenth, which costs less than reading sixteen planes at a time.
const SIDE_BY_SIDE: usize = 128;

/// The forward pass or the input gradient of one convolution.
pub(super) struct Gather {
    /// Axes, time first.
    pub axes: [Axis; 3],
    /// Number of clips.
    pub clips: usize,
    /// Position of the weights in memory.
    pub order: WeightOrder,
}

/// Location of a task's sources.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// Already staged, `[kt, inputs, planes]`.
    Staged(&'a [f32]),
    /// To be staged by the task.
    Own,
}

/// Sources of a chunk of input channels.
struct Sources<'a> {
    runs: &'a [Run],
    /// Staged values that the starts of the runs index.
    x: &'a [f32],
    /// First channel.
    first: usize,
    /// Number of channels.
    count: usize,
    /// Time tap.
    tap: usize,
}

/// Sums of a task: one line per phase and row.
struct Sums<'a> {
    data: &'a mut [f32],
    pitch: usize,
    rows: usize,
    /// Whether the current contents of `data` are to be overwritten.
    fresh: bool,
}

/// A [`Gather`] with its operands.
struct Work<'a> {
    gather: &'a Gather,
    source: Source<'a>,
    panels: &'a Panels<'a>,
    /// All panels, if they were filled up front.
    prepared: Option<&'a [f32]>,
    /// Pairs of phases of height and width.
    phases: Vec<[&'a Phase; 2]>,
    /// Classes of height and width.
    classes: &'a [Classes; 2],
}

impl Gather {
    /// Computes all outputs `[clips, outputs, T, H, W]` from a source `[clips, inputs, …]`.
    pub(super) fn run(&self, source: &[f32], weights: &[f32], output: &mut [f32]) {
        if source.is_empty() || weights.is_empty() {
            return output.fill(0.0);
        }
        if output.is_empty() {
            return;
        }
        if let Some(winograd) = Winograd::new(self).filter(Winograd::is_worthwhile) {
            return winograd.run(source, weights, output);
        }
        let [t, h, w] = &self.axes;
        let [kt, ..] = self.order.kernel;
        let mut source = Source::new(source, self.order.inputs, t.source, [h, w]);
        let mut classes = [h.one_class(), w.one_class()];
        if self.is_best_side_by_side() {
            source = source.side_by_side();
            classes = [h.classes(), w.classes()];
        } else if source.is_best_packed() {
            let packed = Packed::new(&self.axes, self.clips, &self.order, source);
            return packed.run(weights, output);
        }
        let tiles = Tiles::new(&self.axes, self.clips, &source);
        let groups = tiles.groups(&source, t, kt);
        let phases: Vec<_> =
            h.phases.iter().flat_map(|h| w.phases.iter().map(move |w| [h, w])).collect();
        let reached = |&tap: &usize| groups.iter().any(|group| group.is_reached(tap));
        let times = (0..kt).filter(reached).collect();
        let panels = Panels::new(weights, &self.order, &phases, times);
        let run = |prepared: Option<&[f32]>, output: &mut [f32]| {
            let phases = phases.clone();
            let source = source.clone();
            let classes = &classes;
            Work { gather: self, source, panels: &panels, prepared, phases, classes }
                .run(&tiles, &groups, output);
        };
        // For few groups, tasks reorder the weights in cache, which is cheaper than in memory.
        if groups.len() <= FEW_GROUPS {
            return run(None, output);
        }
        with_shared_scratch(panels.total_len(), |prepared| {
            panels.fill_all(prepared);
            run(Some(prepared), output);
        });
    }

    /// Returns whether planes are so small that a large part of each borders on the padding, and
    /// enough of them are reached by the same time taps.
    fn is_best_side_by_side(&self) -> bool {
        let [t, h, w] = &self.axes;
        let taps = |time| -> Vec<_> { t.taps_of(time).into_iter().map(|(tap, _)| tap).collect() };
        h.reach + w.reach > 0
            && h.positions() * w.positions() <= SIDE_BY_SIDE
            && (t.output * self.clips).is_multiple_of(LANES)
            && (1..t.output).all(|time| taps(time) == taps(0))
    }
}

impl Work<'_> {
    fn run(&self, tiles: &Tiles, groups: &[Group], output: &mut [f32]) {
        let gather = self.gather;
        let [kt, ..] = gather.order.kernel;
        let channels = gather.order.outputs;
        let height = self.panels.rows();
        // With few groups, their channels are split into tasks, whose common sources are staged
        // first.
        let threads = rayon::current_num_threads();
        let cut = groups.len() < share::min_tasks(threads);
        let block = match cut {
            true => share::channels_of_a_task(channels, height, threads),
            false => channels,
        };
        let tasks = tiles.split(&gather.axes, channels, block, output);
        // All groups but the last have the same size.
        let common = self.recipe(&groups[0]);
        let each = |group: &Group, input: Input, tasks: Vec<Rows>| {
            let size = |group: &Group| (group.width(), group.area());
            let own = (size(group) != size(&groups[0])).then(|| self.recipe(group));
            let recipe = own.as_ref().unwrap_or(&common);
            tasks.into_par_iter().enumerate().for_each(|(b, rows)| {
                self.block(group, recipe, input, b * block, rows);
            });
        };
        if !cut {
            groups.par_iter().zip(tasks).for_each(|(group, tasks)| each(group, Input::Own, tasks));
            return;
        }
        let inputs = gather.order.inputs;
        for (group, tasks) in groups.iter().zip(tasks) {
            let channel = self.source.planes() * group.area();
            with_shared_scratch(kt * inputs * channel + LANES, |staged| {
                let all = &mut staged[..kt * inputs * channel];
                all.par_chunks_mut(channel).enumerate().for_each(|(index, staged)| {
                    group.stage(&self.source, index / inputs, index % inputs, staged);
                });
                each(group, Input::Staged(staged), tasks);
            });
        }
    }

    fn recipe(&self, group: &Group) -> Recipe {
        let order = &self.gather.order;
        Recipe::new(&self.source, order, &self.phases, self.classes, group)
    }

    /// Computes one block of output channels of a group, starting at `first`.
    fn block(&self, group: &Group, recipe: &Recipe, input: Input, first: usize, mut rows: Rows) {
        let order = &self.gather.order;
        let [kt, ..] = order.kernel;
        let &Recipe { chunk, channel, .. } = recipe;
        let channels = rows.len() / group.pieces.len();
        let height = self.panels.rows();
        let blocks = channels.div_ceil(height);
        let pitch = group.width() + LANES;
        let runs: Vec<_> = (0..kt).map(|tap| group.runs(&self.source, self.classes, tap)).collect();
        let own = if matches!(input, Input::Own) { chunk * channel + LANES } else { 0 };
        let lengths = (0..self.phases.len()).map(|phase| self.panels.len(phase, chunk));
        let panels = if self.prepared.is_some() { 0 } else { lengths.sum::<usize>() * blocks };
        let sums = self.phases.len() * blocks * height * pitch;
        with_scratch(sums + own + panels, |room| {
            let (sums, room) = room.split_at_mut(sums);
            let (own, panels) = room.split_at_mut(own);
            // If the first tap reaches every piece, the sums need not be cleared.
            let first_tap = (0..kt).find(|&tap| !runs[tap].is_empty());
            let mut fresh =
                first_tap.is_some_and(|tap| group.times[tap].iter().all(Option::is_some));
            if !fresh {
                sums.fill(0.0);
            }
            for start in (0..order.inputs).step_by(chunk) {
                let count = chunk.min(order.inputs - start);
                for tap in (0..kt).filter(|&tap| !runs[tap].is_empty()) {
                    let x = match input {
                        Input::Staged(all) => &all[(tap * order.inputs + start) * channel..],
                        Input::Own => {
                            let staged = own.chunks_exact_mut(channel).take(count);
                            for (c, staged) in staged.enumerate() {
                                group.stage(&self.source, tap, start + c, staged);
                            }
                            &*own
                        }
                    };
                    if self.prepared.is_none() {
                        self.panels.fill_subset(
                            first / height,
                            blocks,
                            tap,
                            start..start + count,
                            panels,
                        );
                    }
                    let sources = Sources { runs: &runs[tap], x, first: start, count, tap };
                    let sums = Sums { data: sums, pitch, rows: channels, fresh };
                    self.sum(recipe, &sources, first / height, panels, sums);
                    fresh = false;
                }
            }
            for (index, target) in rows.iter_mut().enumerate() {
                let (k, p) = (index / group.pieces.len(), index % group.pieces.len());
                let line = |phase| {
                    let line = (phase * blocks * height + k) * pitch + group.columns[p];
                    &sums[line..]
                };
                self.finish(&group.pieces[p], line, target);
            }
        });
    }

    /// Adds a chunk of input channels under one time tap to the sums of the blocks of outputs from
    /// block `first` on.
    fn sum(&self, recipe: &Recipe, sources: &Sources, first: usize, panels: &[f32], sums: Sums) {
        let Sums { data, pitch, rows, fresh } = sums;
        let Sources { tap, first: input, count, .. } = *sources;
        let height = self.panels.rows();
        let blocks = rows.div_ceil(height);
        for run in sources.runs {
            // The sources of a block of columns stay in the first-level cache while the sums of all
            // output channels are computed.
            for from in (0..run.count).step_by(BLOCK) {
                for phase in 0..self.phases.len() {
                    let steps = recipe.steps(run.class, phase, count);
                    for b in 0..blocks {
                        let line = (phase * blocks + b) * height * pitch;
                        let weights = match self.prepared {
                            Some(all) => self.panels.find(all, phase, first + b, tap, input),
                            None => self.panels.find_in_subset(panels, phase, b, blocks, count),
                        };
                        Accumulate {
                            x: &sources.x[run.start + from..],
                            steps,
                            weights,
                            sums: &mut data[line + run.column + from..],
                            pitch,
                            columns: BLOCK.min(run.count - from),
                            fresh,
                        }
                        .run();
                    }
                }
            }
        }
    }

    /// Writes the sums of one piece and channel, one line per phase, to their positions in the
    /// output.
    fn finish<'s>(&self, piece: &Piece, line: impl Fn(usize) -> &'s [f32], target: &mut [f32]) {
        let idle = |phase: &[&Phase; 2]| phase.iter().any(|axis| axis.taps.is_empty());
        if self.phases.iter().any(idle) {
            target.fill(0.0);
        }
        let [_, h, w] = &self.gather.axes;
        let (row, position_stride) = (self.source.row(), self.source.position_stride());
        let mut target = Target { axes: [h, w], piece, row, position_stride, values: target };
        for (index, phase) in self.phases.iter().enumerate().filter(|(_, phase)| !idle(phase)) {
            target.put(*phase, line(index));
        }
    }
}
