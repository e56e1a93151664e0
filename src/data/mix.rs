//! Mixing of the actions of a batch (mixup, CutMix).

use std::ops::Range;

use super::Batch;

/// How the actions of a batch are mixed, each with a partner from its lane: a `share` of the pixels
/// and labels comes from the action itself, the rest from the partner. All views of an action are
/// mixed in the same way.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// Partner of each action; the action itself if it is alone in its lane.
    pub partners: Vec<usize>,
    /// λ, the share that each action keeps.
    pub share: f32,
    /// Rectangle that comes from the partner, in the batch's frame size; if `None`, all pixels are
    /// blended.
    pub cut: Option<Cut>,
}

/// A rectangle of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Rows of the rectangle, pixels.
    pub rows: Range<usize>,
    /// Columns of the rectangle, pixels.
    pub columns: Range<usize>,
}

impl Cut {
    /// Scales the rectangle to frames of another size; both sizes are `[H, W]`.
    pub fn scaled(&self, from: [usize; 2], to: [usize; 2]) -> Self {
        let scale = |range: &Range<usize>, from: usize, to: usize| {
            let edge = |at: usize| (at * to + from / 2) / from.max(1);
            edge(range.start)..edge(range.end)
        };
        Self {
            rows: scale(&self.rows, from[0], to[0]),
            columns: scale(&self.columns, from[1], to[1]),
        }
    }
}

impl Mix {
    /// Returns the clips with which the given clips of the batch are mixed: the partner's view with
    /// the same index, modulo the partner's number of views.
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
