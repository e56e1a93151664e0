//! A chunk of input channels that is summed at once, and its weights.

use std::ops::Range;

use super::panels::Panels;

/// A range of input channels.
pub(super) struct Chunk {
    /// First channel.
    pub first: usize,
    /// Number of channels.
    pub count: usize,
}

/// The weights reordered into panels, either all up front or by each task as needed.
pub(super) struct Weights<'a> {
    /// Order of the weights.
    pub panels: &'a Panels<'a>,
    /// All panels, if they were filled up front.
    pub prepared: Option<&'a [f32]>,
}

/// The weights of a chunk for a range of blocks.
pub(super) struct ChunkWeights<'a> {
    /// Buffer that holds the panels.
    pub values: &'a [f32],
    /// Number of blocks.
    pub blocks: usize,
    /// Offset of the first block, per phase.
    pub offsets: Vec<usize>,
    /// Distance between blocks, per phase.
    pub block_strides: Vec<usize>,
    /// Distance between time taps, per phase.
    pub tap_strides: Vec<usize>,
}

impl Weights<'_> {
    /// Returns the length of the buffer that [`Weights::of`] needs.
    pub(super) fn own_len(&self, blocks: usize, inputs: usize) -> usize {
        if self.prepared.is_some() { 0 } else { self.panels.subset_len(blocks, inputs) }
    }

    /// Returns the weights of a chunk for a range of blocks, filling them into `own` unless they
    /// were prepared up front.
    pub(super) fn of<'w>(
        &'w self,
        chunk: &Chunk,
        blocks: Range<usize>,
        own: &'w mut [f32],
    ) -> ChunkWeights<'w> {
        let &Self { panels, prepared } = self;
        let all = panels.order().inputs;
        let inputs = if prepared.is_some() { all } else { chunk.count };
        let phases = 0..panels.phases();
        let offset = |phase| match prepared {
            Some(_) => panels.offset(phase, blocks.start, chunk.first),
            None => panels.subset_offset(phase, blocks.len(), inputs),
        };
        let offsets = phases.clone().map(offset).collect();
        let block_stride = |phase| panels.block_stride(phase, inputs);
        let block_strides = phases.clone().map(block_stride).collect();
        let tap_strides = phases.map(|phase| panels.len(phase, inputs)).collect();
        let count = blocks.len();
        let values = match prepared {
            Some(prepared) => prepared,
            None => {
                panels.fill_blocks(blocks, chunk.first..chunk.first + chunk.count, own);
                &*own
            }
        };
        ChunkWeights { values, blocks: count, offsets, block_strides, tap_strides }
    }
}
