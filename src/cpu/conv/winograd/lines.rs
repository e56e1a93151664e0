//! The lines of a source that a row of tiles reads.

use super::transforms::{Halve, Tiles};
use crate::conv::axis::Axis;
use crate::conv::kernel::LANES;

/// Lines under a row of tiles: a tile has four.
const LINES: usize = 4;

/// Four lines of a plane, each as the values in even and those in odd columns, with zeros outside
/// of the plane.
pub(super) struct Lines<'a> {
    axes: [&'a Axis; 2],
    /// Tiles of a row.
    tiles: usize,
    /// Values from a line's even columns to its odd ones, and on to the next line.
    pitch: usize,
    lines: &'a mut [f32],
    room: &'a mut [f32],
}

impl<'a> Lines<'a> {
    /// Values that [`Self::new`] needs room for.
    pub(super) fn room(tiles: usize) -> usize {
        2 * 2 * LINES * pitch(tiles)
    }

    /// For rows of so many tiles under the axes of height and width.
    pub(super) fn new(axes: [&'a Axis; 2], tiles: usize, room: &'a mut [f32]) -> Self {
        let pitch = pitch(tiles);
        let (lines, room) = room.split_at_mut(2 * LINES * pitch);
        Self { axes, tiles, pitch, lines, room }
    }

    /// Reads the lines under a row of tiles; `follows` if the row before was the last one read.
    pub(super) fn read(&mut self, plane: &[f32], row: usize, follows: bool) {
        let (pitch, tiles) = (self.pitch, self.tiles);
        let [h, w] = self.axes;
        // Two of the four lines are the last ones of the row above.
        let known = if follows { 2 } else { 0 };
        if follows {
            self.lines.copy_within(4 * pitch.., 0);
        }
        let all = self.lines.chunks_exact_mut(2 * pitch).enumerate();
        for (i, line) in all.skip(known) {
            let (even, odd) = line.split_at_mut(pitch);
            let down = h.planes[0] + (2 * row + i) as isize;
            match usize::try_from(down).ok().filter(|&down| down < h.source) {
                Some(down) => {
                    let source = &plane[down * w.source..][..w.source];
                    Halve { source, first: w.planes[0], tiles, even, odd }.run();
                }
                None => {
                    even[..=tiles].fill(0.0);
                    odd[..=tiles].fill(0.0);
                }
            }
        }
    }

    /// Transforms `count` tiles from `first` on. The values of the first one go to the start of
    /// `target` and to every `apart` values on. Whole vectors are written.
    pub(super) fn tiles(&mut self, first: usize, count: usize, target: &mut [f32], apart: usize) {
        let (lines, pitch) = (&self.lines[first..], self.pitch);
        Tiles { lines, pitch, count, room: &mut *self.room, target, apart }.run();
    }
}

/// Values between two lines of `tiles + 1` that whole vectors can be read and written from any
/// place of.
fn pitch(tiles: usize) -> usize {
    (tiles + 1).next_multiple_of(LANES) + LANES
}
