//! The order of summation over input channels and taps.

use super::axis::{Classes, Phase};
use super::kernel::Step;
use super::panels::WeightOrder;
use super::stage::Source;
use super::tiles::Group;

/// Steps of the sum per chunk: few enough for the sources of a block of columns to stay in the
/// first-level cache, since steps read shifted views of the same values.
const DEPTH: usize = 384;

/// Like [`DEPTH`], where pieces lie side by side.
const DEPTH_SIDE_BY_SIDE: usize = 256;

/// Source values per chunk: half of a second-level cache.
const SOURCES: usize = 1 << 16;

/// Like [`SOURCES`], where pieces lie side by side: more than the second-level cache holds, because
/// a block of columns is read only once for all channels.
const SOURCES_SIDE_BY_SIDE: usize = 1 << 18;

/// The order of summation that groups of one size share.
pub(super) struct Recipe {
    /// Number of input channels per chunk.
    pub chunk: usize,
    /// Distance between channels of the source.
    pub channel: usize,
    /// Steps of a chunk, per class of height, class of width, and phase.
    steps: Vec<Vec<Step>>,
    /// Number of classes of width.
    across: usize,
    phases: usize,
}

impl Recipe {
    /// Computes the order for groups of the size of `group`.
    pub(super) fn new(
        source: &Source,
        order: &WeightOrder,
        phases: &[[&Phase; 2]],
        classes: &[Classes; 2],
        group: &Group,
    ) -> Self {
        let area = group.area();
        let channel = source.planes() * area;
        let taps = phases.iter().map(|[h, w]| h.taps.len() * w.taps.len()).max();
        let taps = taps.expect("an axis has at least one phase");
        let (depth, sources) = match source.is_side_by_side() {
            true => (DEPTH_SIDE_BY_SIDE, SOURCES_SIDE_BY_SIDE),
            false => (DEPTH, SOURCES),
        };
        let most = depth.div_ceil(taps.max(1)).min(sources.div_ceil(channel));
        // Steps store positions in 32 bits.
        let most = most.min(u32::MAX as usize / channel).max(1);
        let chunk = order.inputs.div_ceil(order.inputs.div_ceil(most));
        let [down, across] = classes;
        let mut steps = Vec::new();
        for h_class in &down.taps {
            for w_class in &across.taps {
                for (index, [h, w]) in phases.iter().enumerate() {
                    let h_taps = h_class[index / w_class.len()].clone();
                    let w_taps = w_class[index % w_class.len()].clone();
                    let width = w.taps.len();
                    let taps = h_taps.flat_map(|i| w_taps.clone().map(move |j| (i, j)));
                    let offset =
                        |(i, j)| (source.offset(&h.taps[i], &w.taps[j], area), i * width + j);
                    let taps: Vec<(usize, usize)> = taps.map(offset).collect();
                    let all = h.taps.len() * width;
                    let step = |input: usize, &(offset, tap): &(usize, usize)| Step {
                        x: (input * channel + offset) as u32,
                        weight: (input * all + tap) as u32,
                    };
                    let inputs = 0..chunk;
                    let all = inputs.flat_map(|input| taps.iter().map(move |tap| step(input, tap)));
                    steps.push(all.collect());
                }
            }
        }
        Self { chunk, channel, steps, across: across.taps.len(), phases: phases.len() }
    }

    /// Returns the steps of `count` inputs for one phase of the positions of these classes.
    pub(super) fn steps(&self, class: [usize; 2], phase: usize, count: usize) -> &[Step] {
        let steps = &self.steps[(class[0] * self.across + class[1]) * self.phases + phase];
        &steps[..steps.len() / self.chunk * count]
    }
}
