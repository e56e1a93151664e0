//! Which actions of a batch are mixed, and how.

use std::ops::Range;

use super::Batch;

/// The actions of a batch, each mixed with another one of its lane: of pixels and labels `share` are its
/// own, the rest the partner's. All views of an action are mixed alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// For each action its partner; itself where it is alone in its lane.
    pub partners: Vec<usize>,
    /// λ: what each action keeps.
    pub share: f32,
    /// The partner's rectangle, in the batch's frame size; without one all pixels are blended.
    pub cut: Option<Cut>,
}

/// A rectangle of rows and columns, pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Its rows.
    pub rows: Range<usize>,
    /// Its columns.
    pub columns: Range<usize>,
}

impl Cut {
    /// The same part of frames of another size, `[H, W]` each.
    pub fn scaled(&self, from: [usize; 2], to: [usize; 2]) -> Self {
        let scale = |range: &Range<usize>, from: usize, to: usize| {
            let side = |at: usize| (at * to + from / 2) / from.max(1);
            side(range.start)..side(range.end)
        };
        Self {
            rows: scale(&self.rows, from[0], to[0]),
            columns: scale(&self.columns, from[1], to[1]),
        }
    }
}

impl Mix {
    /// The clip that a clip of the batch is mixed with: the partner's view of the same number, counted
    /// round where it has fewer.
    pub fn partner_clips(&self, batch: &Batch, clips: Range<usize>) -> Vec<usize> {
        let mut firsts = Vec::with_capacity(batch.view_counts.len());
        let mut total = 0;
        for &count in &batch.view_counts {
            firsts.push(total);
            total += count;
        }
        let owners = batch.view_counts.iter().enumerate();
        let own = owners.flat_map(|(action, &count)| (0..count).map(move |view| (action, view)));
        let partner = |(action, view): (usize, usize)| {
            let partner = self.partners[action];
            firsts[partner] + view % batch.view_counts[partner]
        };
        own.skip(clips.start).take(clips.len()).map(partner).collect()
    }
}
