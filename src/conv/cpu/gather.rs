//! The computation that forward and input gradient share: every output gathers the sources under
//! its taps.
//!
//! No two tasks write the same number and none needs another's result, and every output is summed in
//! one fixed order, so the result has the same bits whatever the number of threads.

use rayon::prelude::*;

use super::axis::{Axis, Phase};
use super::kernel::{Accumulate, BLOCK, LANES, ROWS, Step};
use super::scratch::with_scratch;
use super::stage::{Piece, Source};
use super::tiles::{Group, Rows, Run, Tiles};

/// Steps of the sum done in one go: the sources of a block of columns then stay in the first-level
/// cache, where steps read shifted views of the same numbers.
const DEPTH: usize = 384;

/// The same where every step reads numbers of its own.
const DEPTH_APART: usize = 192;

/// Numbers of sources in one go: half of a second-level cache.
const SOURCES: usize = 1 << 16;

/// Tasks per thread at least. How many there are changes nothing in the order of any sum.
const TASKS: usize = 3;

/// Where a weight stands in `[K, C, kt, kh, kw]`, named from the side that is written: forward the
/// outputs are K, in the input gradient they are C.
#[derive(Debug, Clone, Copy)]
pub struct WeightOrder {
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

/// One direction of one convolution.
pub struct Gather {
    /// Axes, time first.
    pub axes: [Axis; 3],
    /// Clips.
    pub clips: usize,
    /// Where the weights stand.
    pub order: WeightOrder,
}

/// Where a task's sources are.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// In the source tensor itself.
    Plain,
    /// Staged before, `[kt, inputs, planes]`.
    Staged(&'a [f32]),
    /// The task stages them.
    Own,
}

/// The order of summing that groups of one size share.
struct Recipe {
    /// Input channels summed in one go.
    chunk: usize,
    /// Distance between channels of the source.
    channel: usize,
    /// Per phase, the steps of a chunk.
    steps: Vec<Vec<Step>>,
    /// Per phase, how many weights of one input channel the steps lie in.
    lengths: Vec<usize>,
}

/// Sources of a chunk of input channels.
struct Sources<'a> {
    runs: &'a [Run],
    /// Where the runs start.
    x: &'a [f32],
    /// Channels.
    count: usize,
}

/// Sums of a task: per phase and row a line.
struct Sums<'a> {
    data: &'a mut [f32],
    pitch: usize,
    rows: usize,
    /// Whether what `data` holds does not count.
    fresh: bool,
}

/// What is computed, and from what.
struct Work<'a> {
    gather: &'a Gather,
    source: Source<'a>,
    weights: &'a [f32],
    /// Pairs of phases of height and width.
    phases: Vec<[&'a Phase; 2]>,
    /// Whether sources are read as they are.
    plain: bool,
}

impl Gather {
    /// Computes all outputs `[clips, outputs, T, H, W]` from a source `[clips, inputs, …]`.
    pub fn run(&self, source: &[f32], weights: &[f32], output: &mut [f32]) {
        if source.is_empty() || weights.is_empty() {
            return output.fill(0.0);
        }
        if output.is_empty() {
            return;
        }
        let [t, h, w] = &self.axes;
        let [kt, ..] = self.order.kernel;
        let source = Source::new(source, self.order.inputs, t.source, [h, w]);
        let tiles = Tiles::new(&self.axes, self.clips, &source);
        let groups = tiles.groups(&source, t, kt);
        // Reading whole vectors must not run past the end of the source.
        let whole = |group: &Group| group.columns.iter().all(|column| column % LANES == 0);
        let plain = source.is_plain() && groups.iter().all(whole);
        let phases = h.phases.iter().flat_map(|h| w.phases.iter().map(move |w| [h, w])).collect();
        let work = Work { gather: self, source, weights, phases, plain };

        let channels = self.order.outputs;
        // Few groups: their channels are cut into tasks, and what these share is staged before.
        let wanted = TASKS * rayon::current_num_threads();
        let cut = groups.len() < wanted;
        let block = match cut {
            true => channels.div_ceil(wanted).next_multiple_of(ROWS).max(2 * ROWS),
            false => channels,
        };
        let tasks = tiles.split(&self.axes, channels, block, output);
        // All groups but the last have one size.
        let common = work.recipe(&groups[0]);
        let each = |group: &Group, input: Input, tasks: Vec<Rows>| {
            let own = (group.width() != groups[0].width()).then(|| work.recipe(group));
            let recipe = own.as_ref().unwrap_or(&common);
            tasks.into_par_iter().enumerate().for_each(|(b, rows)| {
                work.block(group, recipe, input, b * block, rows);
            });
        };
        if plain || !cut {
            let input = if plain { Input::Plain } else { Input::Own };
            groups.par_iter().zip(tasks).for_each(|(group, tasks)| each(group, input, tasks));
            return;
        }
        let inputs = self.order.inputs;
        for (group, tasks) in groups.iter().zip(tasks) {
            let channel = work.source.planes() * group.area();
            with_scratch(kt * inputs * channel + LANES, |staged| {
                let all = &mut staged[..kt * inputs * channel];
                all.par_chunks_mut(channel).enumerate().for_each(|(index, staged)| {
                    group.stage(&work.source, index / inputs, index % inputs, staged);
                });
                each(group, Input::Staged(staged), tasks);
            });
        }
    }
}

impl Work<'_> {
    fn recipe(&self, group: &Group) -> Recipe {
        let order = &self.gather.order;
        let [_, _, kw] = order.kernel;
        let area = group.area();
        let channel =
            if self.plain { self.source.plain_channel() } else { self.source.planes() * area };
        let touched = if self.plain { group.width() } else { channel };
        let taps = self.phases.iter().map(|[h, w]| h.taps.len() * w.taps.len());
        let depth = if self.source.is_seamless() { DEPTH_APART } else { DEPTH };
        let most = depth.div_ceil(taps.max().unwrap_or(1).max(1)).min(SOURCES.div_ceil(touched));
        let chunk = order.inputs.div_ceil(order.inputs.div_ceil(most));
        let mut lengths = Vec::new();
        let steps = self.phases.iter().map(|[h, w]| {
            let mut taps = Vec::new();
            for h in &h.taps {
                for w in &w.taps {
                    let x = self.source.place(h, w, area);
                    taps.push(Step { x, weight: h.index * kw + w.index });
                }
            }
            lengths.push(taps.iter().map(|tap| tap.weight + 1).max().unwrap_or(0));
            let mut steps = Vec::with_capacity(chunk * taps.len());
            for input in 0..chunk {
                for tap in &taps {
                    let (x, weight) =
                        (input * channel + tap.x, input * order.input_step + tap.weight);
                    steps.push(Step { x, weight });
                }
            }
            steps
        });
        Recipe { chunk, channel, steps: steps.collect(), lengths }
    }

    /// One block of output channels, `first` and following, of one group.
    fn block(&self, group: &Group, recipe: &Recipe, input: Input, first: usize, mut rows: Rows) {
        let order = &self.gather.order;
        let [kt, kh, kw] = order.kernel;
        let &Recipe { chunk, channel, .. } = recipe;
        let channels = rows.len() / group.pieces.len();
        let blocks = channels.div_ceil(ROWS);
        // A seamless run may write whole vectors past the last column.
        let pitch = group.width().next_multiple_of(LANES) + LANES;
        let runs: Vec<_> = (0..kt).map(|tap| group.runs(&self.source, tap, self.plain)).collect();
        let own = if matches!(input, Input::Own) { chunk * channel + LANES } else { 0 };
        with_scratch(own, |own| {
            with_scratch(self.phases.len() * blocks * ROWS * pitch, |sums| {
                // If the first tap reaches every piece, filling with zeros is needless.
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
                            Input::Plain => &self.source.data()[start * channel..],
                            Input::Staged(all) => &all[(tap * order.inputs + start) * channel..],
                            Input::Own => {
                                let staged = own.chunks_exact_mut(channel).take(count);
                                for (c, staged) in staged.enumerate() {
                                    group.stage(&self.source, tap, start + c, staged);
                                }
                                &*own
                            }
                        };
                        let sources = Sources { runs: &runs[tap], x, count };
                        let skip = start * order.input_step + tap * kh * kw;
                        let base = skip + first * order.output_step;
                        let sums = Sums { data: sums, pitch, rows: channels, fresh };
                        self.sum(recipe, &sources, &self.weights[base..], sums);
                        fresh = false;
                    }
                }
                for (index, target) in rows.iter_mut().enumerate() {
                    let (k, p) = (index / group.pieces.len(), index % group.pieces.len());
                    let line = |phase| {
                        let line = (phase * blocks * ROWS + k) * pitch + group.columns[p];
                        &sums[line..]
                    };
                    self.finish(&group.pieces[p], line, target);
                }
            });
        });
    }

    /// Adds a chunk of input channels under one time tap.
    fn sum(&self, recipe: &Recipe, sources: &Sources, weights: &[f32], sums: Sums) {
        let order = &self.gather.order;
        let Sums { data, pitch, rows, fresh } = sums;
        let blocks = rows.div_ceil(ROWS);
        for run in sources.runs {
            // The sources of a block of columns stay in the first-level cache while all channels
            // are summed over them.
            for from in (0..run.count).step_by(BLOCK) {
                for (phase, steps) in recipe.steps.iter().enumerate() {
                    let steps = &steps[..steps.len() / recipe.chunk * sources.count];
                    for b in 0..blocks {
                        let line = (phase * blocks + b) * ROWS * pitch;
                        // Surplus rows of the last block repeat its last one.
                        let row = |j: usize| (b * ROWS + j).min(rows - 1) * order.output_step;
                        Accumulate {
                            x: &sources.x[run.start + from..],
                            steps,
                            weights,
                            length: (sources.count - 1) * order.input_step + recipe.lengths[phase],
                            rows: std::array::from_fn(row),
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

    /// Puts the sums of one piece and channel, one line per phase, to their places in the output.
    fn finish<'s>(&self, piece: &Piece, line: impl Fn(usize) -> &'s [f32], target: &mut [f32]) {
        let idle = |phase: &[&Phase; 2]| phase.iter().any(|axis| axis.taps.is_empty());
        if self.phases.iter().any(idle) {
            target.fill(0.0);
        }
        for (index, phase) in self.phases.iter().enumerate().filter(|(_, phase)| !idle(phase)) {
            self.put(*phase, piece, line(index), target);
        }
    }

    fn put(
        &self,
        [h_phase, w_phase]: [&Phase; 2],
        piece: &Piece,
        sums: &[f32],
        target: &mut [f32],
    ) {
        let [_, h, w] = &self.gather.axes;
        let row = self.source.row();
        let count = w.count(w_phase.first, 0, w.positions());
        let rows = h.count(h_phase.first, piece.from, piece.to);
        if h.output_step * w.output_step == 1 && row == w.output {
            return target.copy_from_slice(&sums[..target.len()]);
        }
        for i in 0..rows {
            let line = (i * h.output_step + h_phase.first) * w.output;
            let line = &mut target[line..][..w.output];
            let sums = &sums[i * row..][..count];
            match (w.output_step, sums.split_last()) {
                (1, _) => line.copy_from_slice(sums),
                (2, Some((last, sums))) => {
                    let line = &mut line[w_phase.first..];
                    for (places, &sum) in line.as_chunks_mut::<2>().0.iter_mut().zip(sums) {
                        places[0] = sum;
                    }
                    line[2 * sums.len()] = *last;
                }
                (step, _) => {
                    let places = line.iter_mut().skip(w_phase.first).step_by(step);
                    places.zip(sums).for_each(|(place, &sum)| *place = sum);
                }
            }
        }
    }
}
