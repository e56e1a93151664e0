//! The lines of a source plane that some rows of tiles read.

use std::ops::Range;

use super::transforms::{Deinterleave, HorizontalTransform, VerticalTransform};
use crate::conv::axis::Axis;
use crate::conv::kernel::LANES;

/// The lines of a plane under some rows of tiles, transformed horizontally. Every line is
/// transformed once for both rows of tiles that read it. Each step runs over all lines before the
/// next step, since reading values right after writing them stalls.
pub(super) struct Lines<'a> {
    axes: [&'a Axis; 2],
    /// Number of tiles per row.
    tiles: usize,
    /// Distance between the parts of a line (even and odd columns, or the four transformed values).
    pitch: usize,
    /// First row of tiles.
    first: usize,
    /// Even and odd columns, `[lines, 2, pitch]`.
    halves: &'a mut [f32],
    /// Transformed lines, `[lines, 4, pitch]`.
    lines: &'a mut [f32],
}

impl<'a> Lines<'a> {
    /// Returns the length of the buffer that [`Self::new`] needs for up to `rows` rows of `tiles`
    /// tiles.
    pub(super) fn room(rows: usize, tiles: usize) -> usize {
        6 * lines(rows) * pitch(tiles)
    }

    /// Creates the lines for rows of `tiles` tiles, given the axes of height and width.
    pub(super) fn new(axes: [&'a Axis; 2], tiles: usize, room: &'a mut [f32]) -> Self {
        let (halves, lines) = room.split_at_mut(room.len() / 3);
        Self { axes, tiles, pitch: pitch(tiles), first: 0, halves, lines }
    }

    /// Reads the lines under some rows of tiles. `plane` may extend beyond the end of the plane.
    pub(super) fn read(&mut self, plane: &[f32], rows: Range<usize>) {
        let (pitch, tiles) = (self.pitch, self.tiles);
        let [h, w] = self.axes;
        self.first = rows.start;
        let count = lines(rows.len());
        let halves = &mut self.halves[..2 * count * pitch];
        let target = &mut self.lines[..4 * count * pitch];
        let (size, first) = ([h.source, w.source], [h.planes[0], w.planes[0]]);
        let first = [first[0] + 2 * rows.start as isize, first[1]];
        Deinterleave { plane, size, first, tiles, halves: &mut *halves, pitch }.run();
        HorizontalTransform { halves, pitch, count: tiles, target }.run();
    }

    /// Transforms some tiles of a row. The 16 values of the first tile are written to the start of
    /// `target` at a distance of `value_stride`, those of the other tiles after them. Whole vectors
    /// are written.
    pub(super) fn tiles(
        &self,
        row: usize,
        tiles: Range<usize>,
        target: &mut [f32],
        value_stride: usize,
    ) {
        let (pitch, count) = (self.pitch, tiles.len());
        let line = 2 * (row - self.first);
        let lines = &self.lines[line * 4 * pitch + tiles.start..];
        VerticalTransform { lines, pitch, count, target, value_stride }.run();
    }
}

/// Returns the number of lines under `rows` rows of tiles.
fn lines(rows: usize) -> usize {
    2 * rows + 2
}

/// Returns the distance between two lines of `tiles + 1` values that allows reading and writing
/// whole vectors starting at any of them.
fn pitch(tiles: usize) -> usize {
    (tiles + 1).next_multiple_of(LANES) + LANES
}
