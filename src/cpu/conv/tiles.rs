//! Cutting the outputs of a [`super::gather::Gather`] into tasks.
//!
//! A piece is a band of rows of one plane, a group is a set of pieces whose columns are computed
//! together, and a task computes some channels of one group. The cut depends on sizes alone.

use super::axis::{Axis, Classes};
use super::kernel::LANES;
use super::stage::{Piece, Source};

/// Target number of output columns (over all phases) of a group.
const COLUMNS: usize = 512;

/// Like [`COLUMNS`], where pieces lie side by side.
const COLUMNS_SIDE_BY_SIDE: usize = 2048;

/// The partition of the outputs into groups.
pub(super) struct Tiles {
    /// Rows per piece.
    rows: usize,
    /// Pieces per plane.
    bands: usize,
    /// Pieces per group.
    per_group: usize,
    /// Whether the pieces of [`LANES`] planes in the same band are consecutive.
    side_by_side: bool,
    clips: usize,
    times: usize,
    height: usize,
}

/// Pieces that are computed together, column after column.
pub(super) struct Group {
    /// Pieces of the group.
    pub pieces: Vec<Piece>,
    /// First column of each piece, followed by the end of the last piece.
    pub columns: Vec<usize>,
    /// Start of each piece in a staged plane, followed by the end of the last piece.
    pub areas: Vec<usize>,
    /// Source time per time tap and piece; `None` in the padding.
    pub times: Vec<Vec<Option<usize>>>,
}

/// Consecutive columns that are computed together.
pub(super) struct Run {
    /// First column of the sums.
    pub column: usize,
    /// Offset of the first source value, for a tap without offset.
    pub start: usize,
    /// Number of columns.
    pub count: usize,
    /// Classes of height and width of its positions.
    pub class: [usize; 2],
}

/// The rows of the output that a task writes, in the order `[channels, pieces]`.
pub(super) type Rows<'a> = Vec<&'a mut [f32]>;

impl Tiles {
    /// Chooses the cut for `clips` clips.
    pub(super) fn new([t, h, w]: &[Axis; 3], clips: usize, source: &Source) -> Self {
        let row = source.row();
        let side_by_side = source.is_side_by_side();
        let phases = h.phases.len() * w.phases.len();
        let bands = |most: usize| h.positions().div_ceil(h.positions().div_ceil(most.max(1)));
        let (rows, per_group) = if side_by_side {
            (bands(COLUMNS_SIDE_BY_SIDE / (row * phases)), LANES)
        } else {
            let rows = bands(COLUMNS / (row * phases));
            (rows, (COLUMNS / (rows * row * phases)).max(1))
        };
        Self {
            rows,
            bands: h.positions().div_ceil(rows),
            per_group,
            side_by_side,
            clips,
            times: t.output,
            height: h.positions(),
        }
    }

    /// Returns the index of a piece in the order of pieces. Pieces are ordered by time, so that
    /// those that a time tap does not reach are at the ends.
    fn index(&self, time: usize, clip: usize, band: usize) -> usize {
        let plane = time * self.clips + clip;
        let lanes = if self.side_by_side { LANES } else { 1 };
        (plane / lanes * self.bands + band) * lanes + plane % lanes
    }

    /// Returns the groups, with `taps` taps along the axis `t`.
    pub(super) fn groups(&self, source: &Source, t: &Axis, taps: usize) -> Vec<Group> {
        let none = Piece { clip: 0, time: 0, from: 0, to: 0 };
        let mut pieces = vec![none; self.times * self.clips * self.bands];
        for time in 0..self.times {
            for clip in 0..self.clips {
                for band in 0..self.bands {
                    let from = band * self.rows;
                    let to = (from + self.rows).min(self.height);
                    pieces[self.index(time, clip, band)] = Piece { clip, time, from, to };
                }
            }
        }
        pieces.chunks(self.per_group).map(|pieces| Group::new(source, t, taps, pieces)).collect()
    }

    /// Splits the output `[clips, channels, T, H, W]` into the rows of each task: per group, per
    /// block of `block` channels.
    pub(super) fn split<'a>(
        &self,
        [_, h, w]: &[Axis; 3],
        channels: usize,
        block: usize,
        output: &'a mut [f32],
    ) -> Vec<Vec<Rows<'a>>> {
        let groups = (self.times * self.clips * self.bands).div_ceil(self.per_group);
        let rows = |first| Vec::with_capacity(block.min(channels - first) * self.per_group);
        let mut tasks: Vec<Vec<Rows>> =
            (0..groups).map(|_| (0..channels).step_by(block).map(rows).collect()).collect();
        let mut planes: Vec<Option<&mut [f32]>> =
            output.chunks_mut(h.output * w.output).map(Some).collect();
        for channel in 0..channels {
            for time in 0..self.times {
                for clip in 0..self.clips {
                    let index = (clip * channels + channel) * self.times + time;
                    let Some(plane) = planes[index].take() else { continue };
                    let parts = plane.chunks_mut(self.rows * h.output_step * w.output);
                    for (band, part) in parts.enumerate() {
                        let group = self.index(time, clip, band) / self.per_group;
                        tasks[group][channel / block].push(part);
                    }
                }
            }
        }
        tasks
    }
}

impl Group {
    fn new(source: &Source, t: &Axis, taps: usize, pieces: &[Piece]) -> Self {
        if source.is_side_by_side() {
            return Self::side_by_side(source, t, taps, pieces);
        }
        // Each piece starts at a cache line.
        let (mut columns, mut areas) = (vec![0], vec![0]);
        let (mut column, mut area) = (0, 0);
        for piece in pieces {
            column = (column + (piece.to - piece.from) * source.row()).next_multiple_of(LANES);
            area = (area + source.area(piece)).next_multiple_of(LANES);
            columns.push(column);
            areas.push(area);
        }
        Self { pieces: pieces.to_vec(), columns, areas, times: Self::times(t, taps, pieces) }
    }

    fn side_by_side(source: &Source, t: &Axis, taps: usize, pieces: &[Piece]) -> Self {
        let Piece { from, to, .. } = pieces[0];
        let lanes = 0..pieces.len();
        let columns = lanes.clone().chain([(to - from) * source.row()]).collect();
        let areas = lanes.chain([source.area(&pieces[0])]).collect();
        Self { pieces: pieces.to_vec(), columns, areas, times: Self::times(t, taps, pieces) }
    }

    /// Returns the source time per time tap and piece.
    fn times(t: &Axis, taps: usize, pieces: &[Piece]) -> Vec<Vec<Option<usize>>> {
        let reached: Vec<_> = pieces.iter().map(|piece| t.taps_of(piece.time)).collect();
        let at = |tap| {
            let find = |taps: &Vec<(usize, usize)>| {
                taps.iter().find(|(index, _)| *index == tap).map(|(_, time)| *time)
            };
            reached.iter().map(find).collect()
        };
        (0..taps).map(at).collect()
    }

    /// Number of columns of all pieces.
    pub(super) fn width(&self) -> usize {
        self.columns[self.pieces.len()]
    }

    /// Number of values of a staged plane, rounded up to whole cache lines.
    pub(super) fn area(&self) -> usize {
        self.areas[self.pieces.len()].next_multiple_of(LANES)
    }

    /// Returns whether a time tap reaches any piece.
    pub(super) fn is_reached(&self, tap: usize) -> bool {
        self.times[tap].iter().any(Option::is_some)
    }

    /// Stages one channel of all pieces under one time tap.
    pub(super) fn stage(&self, source: &Source, tap: usize, input: usize, staged: &mut [f32]) {
        let area = self.area();
        if !self.is_reached(tap) {
            return; // Nothing reads it.
        }
        if source.is_side_by_side() {
            return source.stage_side_by_side(&self.pieces, input, &self.times[tap], area, staged);
        }
        for (p, piece) in self.pieces.iter().enumerate() {
            if let Some(time) = self.times[tap][p] {
                source.stage(piece, input, time, area, self.areas[p], staged);
            }
        }
    }

    /// Returns the runs of columns that a time tap reaches.
    pub(super) fn runs(&self, source: &Source, classes: &[Classes; 2], tap: usize) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        if source.is_side_by_side() {
            // All pieces are reached by the same time taps.
            let rows =
                if self.is_reached(tap) { self.pieces[0].from..self.pieces[0].to } else { 0..0 };
            for (line, row) in rows.enumerate() {
                for (position, &across) in classes[1].of.iter().enumerate() {
                    let class = [classes[0].of[row], across];
                    let start = line * source.row() + position * LANES;
                    match runs.last_mut() {
                        Some(run) if position > 0 && run.class == class => run.count += LANES,
                        _ => runs.push(Run { column: start, start, count: LANES, class }),
                    }
                }
            }
            return runs;
        }
        for (p, piece) in self.pieces.iter().enumerate() {
            if self.times[tap][p].is_some() {
                let (column, start) = (self.columns[p], self.areas[p]);
                let count = (piece.to - piece.from) * source.row() - source.gap();
                runs.push(Run { column, start, count, class: [0; 2] });
            }
        }
        runs
    }
}
