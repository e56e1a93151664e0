//! Cutting the outputs of a [`super::packed::Packed`] product into tasks.
//!
//! A site is a band of rows of one plane, or, where the kernel extends along time, of the planes of
//! all times. A group is a set of sites whose columns are computed together. The cut depends on
//! sizes alone.

use super::axis::Axis;
use super::kernel::{LANES, registers};
use super::product::columns_at_once;
use super::stage::Piece;

/// Target number of columns (over all times) of a group.
const COLUMNS: usize = 784;

/// Upper limit where the kernel extends along time.
const COLUMNS_IN_TIME: usize = 3072;

/// Largest number of positions of a plane that counts as small.
const SMALL: usize = 256;

/// Target number of staged sources and sums of a group where the kernel extends along time: a
/// mebibyte, so that they fit in a core's private cache.
const VALUES: usize = 1 << 18;

/// The partition of the outputs into groups.
pub(super) struct Cut {
    /// Rows per site.
    rows: usize,
    /// Sites per plane.
    bands: usize,
    /// Sites per group.
    per_group: usize,
    /// Whether a site covers all times.
    in_time: bool,
    clips: usize,
    times: usize,
    height: usize,
    /// Positions per row.
    wide: usize,
}

/// Sites that are computed together.
pub(super) struct Group {
    /// Sites of the group; where sites cover all times, their `time` has no meaning.
    pub sites: Vec<Piece>,
    /// Blocks of columns as (first column, number of columns).
    pub blocks: Vec<(usize, usize)>,
    /// Number of columns at one time, rounded up to whole vectors.
    pub width: usize,
}

/// The rows of the output that a task writes, in the order `[channels, times, sites]`.
pub(super) type Rows<'a> = Vec<&'a mut [f32]>;

impl Cut {
    /// Chooses the cut for `clips` clips, with `taps` taps along the axis `t`. Each column takes
    /// `values` values of memory, staged sources and sums together.
    pub(super) fn new([t, h, w]: &[Axis; 3], clips: usize, taps: usize, values: usize) -> Self {
        let in_time = taps > 1 || (0..t.output).any(|time| t.taps_of(time).len() != 1);
        let wide = w.positions();
        let phases = h.phases.len() * w.phases.len();
        let most = match in_time {
            true => {
                // Several small planes share the cost of reading the weights.
                let columns = match h.positions() * wide <= SMALL {
                    true => COLUMNS_IN_TIME,
                    false => (VALUES / values).clamp(COLUMNS, COLUMNS_IN_TIME),
                };
                columns / t.output.max(t.source) / phases
            }
            false => COLUMNS / phases,
        };
        let most = most.max(columns_at_once());
        let rows = Self::rows(h.positions(), wide, most);
        let bands = h.positions().div_ceil(rows);
        let sites = clips * bands * if in_time { 1 } else { t.output };
        let groups = sites.div_ceil((most / (rows * wide)).max(1));
        Self {
            rows,
            bands,
            per_group: sites.div_ceil(groups),
            in_time,
            clips,
            times: t.output,
            height: h.positions(),
            wide,
        }
    }

    /// Returns how many of `height` rows of length `wide` make up a site of at most `most` columns,
    /// such that the fewest vectors are needed.
    fn rows(height: usize, wide: usize, most: usize) -> usize {
        let most = (most / wide).clamp(1, height);
        if most == height {
            return height;
        }
        let vectors = |rows: usize| (rows * wide).div_ceil(LANES);
        let all = |rows: usize| height / rows * vectors(rows) + vectors(height % rows);
        (most.div_ceil(2)..=most).rev().min_by_key(|&rows| all(rows)).unwrap_or(most)
    }

    /// Returns whether a site covers all times.
    pub(super) fn is_in_time(&self) -> bool {
        self.in_time
    }

    /// Returns the index of a site's group.
    fn group(&self, time: usize, clip: usize, band: usize) -> usize {
        let plane = if self.in_time { clip } else { time * self.clips + clip };
        (plane * self.bands + band) / self.per_group
    }

    /// Returns all groups; all but the last have the same number of sites.
    pub(super) fn groups(&self) -> Vec<Group> {
        let times = if self.in_time { 1 } else { self.times };
        let mut groups: Vec<Vec<Piece>> = Vec::new();
        for time in 0..times {
            for clip in 0..self.clips {
                for band in 0..self.bands {
                    let from = band * self.rows;
                    let to = (from + self.rows).min(self.height);
                    let group = self.group(time, clip, band);
                    if group == groups.len() {
                        groups.push(Vec::with_capacity(self.per_group));
                    }
                    groups[group].push(Piece { clip, time, from, to });
                }
            }
        }
        groups.into_iter().map(|sites| self.make(sites)).collect()
    }

    fn make(&self, sites: Vec<Piece>) -> Group {
        let columns: usize = sites.iter().map(|site| (site.to - site.from) * self.wide).sum();
        let (blocks, _) = blocks_of(columns);
        Group { blocks, width: columns.next_multiple_of(LANES), sites }
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
        let sites = self.clips * self.bands * if self.in_time { 1 } else { self.times };
        let per_task = self.per_group * if self.in_time { self.times } else { 1 };
        let rows = |first| Vec::with_capacity(block.min(channels - first) * per_task);
        let mut tasks: Vec<Vec<Rows>> = (0..sites.div_ceil(self.per_group))
            .map(|_| (0..channels).step_by(block).map(rows).collect())
            .collect();
        let mut planes: Vec<Option<&mut [f32]>> =
            output.chunks_mut(h.output * w.output).map(Some).collect();
        for channel in 0..channels {
            for time in 0..self.times {
                for clip in 0..self.clips {
                    let index = (clip * channels + channel) * self.times + time;
                    let Some(plane) = planes[index].take() else { continue };
                    let parts = plane.chunks_mut(self.rows * h.output_step * w.output);
                    for (band, part) in parts.enumerate() {
                        let group = self.group(time, clip, band);
                        tasks[group][channel / block].push(part);
                    }
                }
            }
        }
        tasks
    }
}

/// Divides `columns` columns into blocks (first column, number of columns) and returns these with
/// the total number of columns, rounded up to whole vectors. The blocks are as even as possible,
/// since narrow ones leave registers unused.
pub(super) fn blocks_of(columns: usize) -> (Vec<(usize, usize)>, usize) {
    let (lanes, _) = registers();
    let (vectors, count) = (columns.div_ceil(lanes), columns.div_ceil(columns_at_once()));
    let start = |block: usize| block * vectors / count * lanes;
    let blocks = (0..count).map(|block| (start(block), start(block + 1) - start(block)));
    (blocks.collect(), vectors * lanes)
}
