//! Where everything is in the staged and packed sources of a [`super::packed::Packed`] product.

use super::axis::Axis;
use super::cut::Group;
use super::kernel::LANES;
use super::product::{PackedRow, columns_at_once};
use super::stage::{Piece, Source};

/// What a tap reads of a staged channel: one of its planes, shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Which plane.
    pub plane: usize,
    /// Rows down.
    pub down: usize,
    /// Positions to the right.
    pub right: usize,
}

/// The layout of a group: staged `[channels, frames, sites, planes, rows, positions]`, packed
/// `[blocks, phases, frames, channels, views, columns]`.
pub(super) struct Layout<'g> {
    /// The group.
    pub group: &'g Group,
    /// Source time of each site, where sites have one time.
    pub site_times: Vec<usize>,
    /// Per block of columns, what is copied in each step.
    pub rows: Vec<Vec<PackedRow>>,
    /// Per phase, where its views are in a staged channel.
    pub views: Vec<Vec<usize>>,
    /// Per phase, values of a packed frame of a block.
    pub lengths: Vec<usize>,
    /// Staged values of a plane of a site.
    pub area: usize,
    /// Staged values of a site.
    pub site: usize,
    /// Staged values of a channel at one time.
    pub channel: usize,
    /// Times of the source.
    pub frames: usize,
}

impl<'g> Layout<'g> {
    /// The layout for chunks of up to `chunk` channels; `frames` are the times of the source where
    /// sites have all times.
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
        let place = |view: &View| view.plane * area + view.down * wide + view.right;
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
            views: views.iter().map(|views| views.iter().map(place).collect()).collect(),
            lengths: views.iter().map(length).collect(),
            area,
            site,
            channel,
            frames: frames.map_or(1, <[usize]>::len),
        }
    }

    /// Values of a packed block.
    pub(super) fn block(&self) -> usize {
        self.frames * self.lengths.iter().sum::<usize>()
    }

    /// Values of a packed chunk.
    pub(super) fn chunk(&self) -> usize {
        self.group.blocks.len() * self.block()
    }

    /// Where a frame of a phase starts in a packed block.
    pub(super) fn start(&self, phase: usize, frame: usize) -> usize {
        let before: usize = self.lengths[..phase].iter().sum();
        before * self.frames + frame * self.lengths[phase]
    }
}

/// A row for each block: sites that follow each other without anything in between.
fn whole_rows(group: &Group) -> Vec<Vec<PackedRow>> {
    let row = |&(from, count): &(usize, usize)| vec![PackedRow { from, column: 0, count }];
    group.blocks.iter().map(row).collect()
}

/// The rows (of `positions` values, `pitch` apart) of a group's sites (`apart`), cut at the blocks
/// of columns.
fn rows(group: &Group, positions: usize, pitch: usize, apart: usize) -> Vec<Vec<PackedRow>> {
    let mut rows = vec![Vec::new(); group.blocks.len()];
    let (mut block, mut column) = (0, 0);
    for (index, site) in group.sites.iter().enumerate() {
        for line in 0..site.to - site.from {
            let mut place = 0;
            while place < positions {
                let (first, columns) = group.blocks[block];
                let count = (positions - place).min(first + columns - column);
                let from = index * apart + line * pitch + place;
                rows[block].push(PackedRow { from, column: column - first, count });
                place += count;
                column += count;
                if column == first + columns {
                    block += 1;
                }
            }
        }
    }
    rows
}
