//! Cutting the outputs of a [`Winograd`] into tasks. Sums do not depend on it.

use super::Winograd;
use super::transforms::TILE;
use crate::conv::cut::blocks_of;
use crate::conv::kernel::LANES;
use crate::conv::product::columns_at_once;

/// Target number of transformed source values per task: half of a second-level cache.
const SOURCES: usize = 1 << 18;

/// Largest number of columns (tiles) per task.
const COLUMNS: usize = 192;

/// Consecutive rows of tiles of one plane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub plane: usize,
    pub from: usize,
    pub to: usize,
}

/// Rows of tiles that are computed together.
pub(super) struct Group {
    pub runs: Vec<Run>,
    /// Blocks of columns as (first column, number of columns).
    pub blocks: Vec<(usize, usize)>,
    /// Number of columns, rounded up to whole vectors.
    pub width: usize,
}

/// The rows of the output that a task writes, in the order `[channels, times, runs]`.
pub(super) type Rows<'o> = Vec<&'o mut [f32]>;

impl Winograd<'_> {
    /// Divides the rows of tiles into groups.
    pub(super) fn groups(&self) -> Vec<Group> {
        let [height, wide] = self.tiles;
        let all = self.planes() * height;
        let most = SOURCES / (TILE * self.order.inputs * self.frames());
        let most = (most.clamp(columns_at_once(), COLUMNS) / wide).clamp(1, all);
        // Chooses the number of rows that needs the fewest vectors.
        let vectors = |rows: usize| (rows * wide).div_ceil(LANES);
        let cost = |rows: usize| all / rows * vectors(rows) + vectors(all % rows);
        let rows = (most.div_ceil(2)..=most).rev().min_by_key(|&rows| cost(rows));
        let rows = rows.expect("at least one row is tried");
        let group = |first: usize| {
            let last = (first + rows).min(all);
            let mut runs = Vec::new();
            let mut row = first;
            while row < last {
                let (plane, from) = (row / height, row % height);
                let to = height.min(from + last - row);
                runs.push(Run { plane, from, to });
                row += to - from;
            }
            let (blocks, width) = blocks_of((last - first) * wide);
            Group { runs, blocks, width }
        };
        (0..all).step_by(rows).map(group).collect()
    }

    /// Splits the output into the rows of each task: per group, per block of `block` channels.
    pub(super) fn split<'o>(
        &self,
        groups: &[Group],
        block: usize,
        output: &'o mut [f32],
    ) -> Vec<Vec<Rows<'o>>> {
        let [t, h, w] = self.axes;
        let channels = self.order.outputs;
        let mut planes: Vec<&mut [f32]> = output.chunks_mut(h.output * w.output).collect();
        let parts = channels.div_ceil(block);
        let mut tasks: Vec<Vec<Rows>> =
            groups.iter().map(|_| (0..parts).map(|_| Vec::new()).collect()).collect();
        for channel in 0..channels {
            for time in 0..if self.flat { 1 } else { t.output } {
                for (group, task) in groups.iter().zip(&mut tasks) {
                    for run in &group.runs {
                        let (clip, time) = self.clip_and_time(run.plane, time);
                        let plane = &mut planes[(clip * channels + channel) * t.output + time];
                        let rows = (2 * run.to).min(h.output) - 2 * run.from;
                        let rest = std::mem::take(plane);
                        let (part, rest) = rest.split_at_mut(rows * w.output);
                        *plane = rest;
                        task[channel / block].push(part);
                    }
                }
            }
        }
        tasks
    }
}
