//! The lines of a source that some rows of tiles read.

use std::ops::Range;

use super::transforms::{Along, Down, Halve};
use crate::conv::axis::Axis;
use crate::conv::kernel::LANES;

/// The lines of a plane under some rows of tiles, transformed along the lines: every line is, once
/// for both rows of tiles that read it. Each step runs over all lines, as what is read at once after
/// it was written costs a wait.
pub(super) struct Lines<'a> {
    axes: [&'a Axis; 2],
    /// Tiles of a row.
    tiles: usize,
    /// Values of a line in even or odd columns, and of a line's transform.
    pitch: usize,
    /// First row of tiles.
    first: usize,
    /// `[lines, 2, pitch]`.
    halves: &'a mut [f32],
    /// `[lines, 4, pitch]`.
    lines: &'a mut [f32],
}

impl<'a> Lines<'a> {
    /// Values that [`Self::new`] needs for up to so many rows of so many tiles.
    pub(super) fn room(rows: usize, tiles: usize) -> usize {
        6 * lines(rows) * pitch(tiles)
    }

    /// For rows of so many tiles under the axes of height and width.
    pub(super) fn new(axes: [&'a Axis; 2], tiles: usize, room: &'a mut [f32]) -> Self {
        let (halves, lines) = room.split_at_mut(room.len() / 3);
        Self { axes, tiles, pitch: pitch(tiles), first: 0, halves, lines }
    }

    /// Reads the lines under some rows of tiles. `plane` may go on after the plane.
    pub(super) fn read(&mut self, plane: &[f32], rows: Range<usize>) {
        let (pitch, tiles) = (self.pitch, self.tiles);
        let [h, w] = self.axes;
        self.first = rows.start;
        let count = lines(rows.len());
        let halves = &mut self.halves[..2 * count * pitch];
        let target = &mut self.lines[..4 * count * pitch];
        let (size, first) = ([h.source, w.source], [h.planes[0], w.planes[0]]);
        let first = [first[0] + 2 * rows.start as isize, first[1]];
        Halve { plane, size, first, tiles, halves: &mut *halves, pitch }.run();
        Along { halves, pitch, count: tiles, target }.run();
    }

    /// Transforms some tiles of a row. The values of the first one go to the start of `target` and to
    /// every `apart` values on. Whole vectors are written.
    pub(super) fn tiles(&self, row: usize, tiles: Range<usize>, target: &mut [f32], apart: usize) {
        let (pitch, count) = (self.pitch, tiles.len());
        let line = 2 * (row - self.first);
        let lines = &self.lines[line * 4 * pitch + tiles.start..];
        Down { lines, pitch, count, target, apart }.run();
    }
}

/// Lines under some rows of tiles.
fn lines(rows: usize) -> usize {
    2 * rows + 2
}

/// Values between two lines of `tiles + 1` that whole vectors can be read and written from any
/// place of.
fn pitch(tiles: usize) -> usize {
    (tiles + 1).next_multiple_of(LANES) + LANES
}
