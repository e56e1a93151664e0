//! The memory layout of the staged and packed sources of a [`super::packed::Packed`] product.

use super::axis::Axis;
use super::cut::Group;
use super::kernel::LANES;
use super::product::{PackedRow, columns_at_once};
use super::stage::{Piece, Source};

/// The part of a staged channel that a tap reads: one of its planes, shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Index of the plane.
    pub plane: usize,
    /// Shift in rows.
    pub down: usize,
    /// Shift in positions to the right.
    pub right: usize,
}

/// The layout of a group: staged `[channels, frames, sites, planes, rows, positions]`, packed
/// `[blocks, phases, frames, channels, views, columns]`.
pub(super) struct Layout<'g> {
    /// The group whose sources are laid out.
    pub group: &'g Group,
    /// Source time of each site; empty if a site covers all times.
    pub site_times: Vec<usize>,
    /// Per block of columns, the rows that each step copies.
    pub rows: Vec<Vec<PackedRow>>,
    /// Per phase, the offsets of its views in a staged channel.
    pub views: Vec<Vec<usize>>,
    /// Per phase, the number of values of a packed frame of a block.
    pub lengths: Vec<usize>,
    /// Number of staged values per plane of a site.
    pub area: usize,
    /// Number of staged values per site.
    pub site: usize,
    /// Number of staged values per channel at one time.
    pub channel: usize,
    /// Number of source times that are staged.
    pub frames: usize,
}

impl<'g> Layout<'g> {
    /// Computes the layout for chunks of up to `chunk` channels; `frames` holds the source times if
    /// sites cover all times.
    pub(super) fn new(
        [t, h, w]: &[Axis; 3],
        source: &Source,
        views: &[&[View]],
        frames: Option<&[usize]>,
        chunk: usize,
        group: &'g Group,
    ) -> Self {
        let wide = w.positions() + w.reach;
        let most = group.sites.iter().map(|site| site.to - site.from).max().unwrap_or(0);
        let area = (most + h.reach) * wide;
        let site = h.planes.len() * w.planes.len() * area;
        let plain = source.is_plain();
        let channel = if plain { group.width } else { group.sites.len() * site } + LANES;
        let offset = |view: &View| view.plane * area + view.down * wide + view.right;
        let length = |views: &&[View]| columns_at_once() * chunk * views.len() + LANES;
        let time = |site: &Piece| t.taps_of(site.time).first().map_or(0, |&(_, time)| time);
        let site_times = match frames {
            Some(_) => Vec::new(),
            None => group.sites.iter().map(time).collect(),
        };
        Self {
            group,
            site_times,
            rows: match plain {
                true => whole_rows(group),
                false => rows(group, w.positions(), wide, site),
            },
            views: views.iter().map(|views| views.iter().map(offset).collect()).collect(),
            lengths: views.iter().map(length).collect(),
            area,
            site,
            channel,
            frames: frames.map_or(1, <[usize]>::len),
        }
    }

    /// Number of values of a packed block.
    pub(super) fn block(&self) -> usize {
        self.frames * self.lengths.iter().sum::<usize>()
    }

    /// Number of values of a packed chunk.
    pub(super) fn chunk(&self) -> usize {
        self.group.blocks.len() * self.block()
    }

    /// Returns the offset of a phase's frame in a packed block.
    pub(super) fn start(&self, phase: usize, frame: usize) -> usize {
        let before: usize = self.lengths[..phase].iter().sum();
        before * self.frames + frame * self.lengths[phase]
    }
}

/// Returns one row per block, for sites that follow each other without gaps.
fn whole_rows(group: &Group) -> Vec<Vec<PackedRow>> {
    let row = |&(from, count): &(usize, usize)| vec![PackedRow { from, column: 0, count }];
    group.blocks.iter().map(row).collect()
}

/// Returns the rows of a group's sites, split at the blocks of columns. Rows have `positions`
/// values and a distance of `pitch`; sites have a distance of `site_len`.
fn rows(group: &Group, positions: usize, pitch: usize, site_len: usize) -> Vec<Vec<PackedRow>> {
    let mut rows = vec![Vec::new(); group.blocks.len()];
    let (mut block, mut column) = (0, 0);
    for (index, site) in group.sites.iter().enumerate() {
        for line in 0..site.to - site.from {
            let mut position = 0;
            while position < positions {
                let (first, columns) = group.blocks[block];
                let count = (positions - position).min(first + columns - column);
                let from = index * site_len + line * pitch + position;
                rows[block].push(PackedRow { from, column: column - first, count });
                position += count;
                column += count;
                if column == first + columns {
                    block += 1;
                }
            }
        }
    }
    rows
}
