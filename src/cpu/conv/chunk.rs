//! The input channels that are summed in one go, and their weights.

use std::ops::Range;

use super::panels::Panels;

/// Some input channels.
pub(super) struct Chunk {
    /// First of them.
    pub first: usize,
    /// How many.
    pub count: usize,
}

/// The weights in order: all of them made up front, or each task makes its own.
pub(super) struct Weights<'a> {
    /// Their order.
    pub panels: &'a Panels<'a>,
    /// All panels, if they are made up front.
    pub made: Option<&'a [f32]>,
}

/// The weights of a chunk and some blocks.
pub(super) struct ChunkWeights<'a> {
    /// The panels.
    pub values: &'a [f32],
    /// How many blocks.
    pub blocks: usize,
    /// Per phase, where those of the first block start.
    pub places: Vec<usize>,
    /// Per phase, from one block to the next.
    pub steps: Vec<usize>,
    /// Per phase, from one time tap to the next.
    pub taps: Vec<usize>,
}

impl Weights<'_> {
    /// Values that [`Weights::of`] needs room for.
    pub(super) fn own(&self, blocks: usize, inputs: usize) -> usize {
        if self.made.is_some() { 0 } else { self.panels.some(blocks, inputs) }
    }

    /// The weights of a chunk and some blocks, made in `own` if they are not made yet.
    pub(super) fn of<'w>(
        &'w self,
        chunk: &Chunk,
        blocks: Range<usize>,
        own: &'w mut [f32],
    ) -> ChunkWeights<'w> {
        let &Self { panels, made } = self;
        let all = panels.order().inputs;
        let inputs = if made.is_some() { all } else { chunk.count };
        let phases = 0..panels.phases();
        let place = |phase| match made {
            Some(_) => panels.place(phase, blocks.start, chunk.first),
            None => panels.place_some(phase, blocks.len(), inputs),
        };
        let places = phases.clone().map(place).collect();
        let steps = phases.clone().map(|phase| panels.step(phase, inputs)).collect();
        let taps = phases.map(|phase| panels.len(phase, inputs)).collect();
        let count = blocks.len();
        let values = match made {
            Some(made) => made,
            None => {
                panels.fill_blocks(blocks, chunk.first..chunk.first + chunk.count, own);
                &*own
            }
        };
        ChunkWeights { values, blocks: count, places, steps, taps }
    }
}
