//! Staging: copying the sources of a few rows of outputs, padding included, into planes (see
//! [`super::axis`]), so that the inner loops only read contiguous values.

use pulp::{Simd, WithSimd};

use super::axis::{Axis, Tap};
use super::kernel::{CopyRows, LANES};
use super::scratch::with_scratch;
use super::transpose::Shuffles;
use crate::simd::dispatch;

/// A band of outputs: positions `from..to` along the height of one plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Index of the clip.
    pub clip: usize,
    /// Output time.
    pub time: usize,
    /// First position along the height, in phase positions.
    pub from: usize,
    /// One past the last position.
    pub to: usize,
}

/// Rows shorter than this get one staged plane per tap along the width, because the copies cost
/// less than computing the unused columns between rows.
const SHORT_ROW: usize = 40;

/// Planes smaller than this also get one staged plane per tap along the height.
const SMALL_PLANE: usize = 256;

/// A source `[clips, channels, T, H, W]` and how it is staged.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    data: &'a [f32],
    channels: usize,
    times: usize,
    h: &'a Axis,
    w: &'a Axis,
    /// Staged planes along the height, as (plane, shift) of the axis; the shift is 0 unless spread.
    h_views: Vec<(usize, usize)>,
    /// Staged planes along the width, likewise.
    w_views: Vec<(usize, usize)>,
    /// Whether, along height and width, there is one staged plane per tap, which holds only the
    /// values that this tap reads.
    spread: [bool; 2],
    /// Number of pieces that are interleaved position by position: 1, or [`LANES`].
    interleaved: usize,
}

impl<'a> Source<'a> {
    /// Chooses how to stage a source.
    pub(super) fn new(
        data: &'a [f32],
        channels: usize,
        times: usize,
        [h, w]: [&'a Axis; 2],
    ) -> Self {
        let spread_w = w.reach > 0 && w.positions() < SHORT_ROW;
        let small = h.positions() * w.positions() < SMALL_PLANE;
        let spread_h = h.reach > 0 && small && (spread_w || w.reach == 0);
        Self::with_spread(data, channels, times, [h, w], [spread_h, spread_w])
    }

    fn with_spread(
        data: &'a [f32],
        channels: usize,
        times: usize,
        [h, w]: [&'a Axis; 2],
        spread: [bool; 2],
    ) -> Self {
        let views = |axis: &Axis, spread| match spread {
            true => axis.views(),
            false => (0..axis.planes.len()).map(|plane| (plane, 0)).collect(),
        };
        Self {
            data,
            channels,
            times,
            h,
            w,
            h_views: views(h, spread[0]),
            w_views: views(w, spread[1]),
            spread,
            interleaved: 1,
        }
    }

    /// Returns the same source, staged with [`LANES`] pieces side by side: a vector holds the same
    /// position of all of them, so that taps in the padding can be skipped at each position, and
    /// no shifted copies of a plane are needed.
    pub(super) fn side_by_side(self) -> Self {
        Self {
            interleaved: LANES,
            ..Self::with_spread(self.data, self.channels, self.times, [self.h, self.w], [false; 2])
        }
    }

    /// Returns whether a product of packed sources is faster than shifted views. Where rows are
    /// short, views are not aligned to cache lines, and where the kernel extends along time only,
    /// each step reads from a different page. In longer rows the copies cost more than they save.
    pub(super) fn is_best_packed(&self) -> bool {
        self.is_seamless() || self.w.positions() < SHORT_ROW
    }

    /// Distance between two positions of a piece.
    pub(super) fn position_stride(&self) -> usize {
        self.interleaved
    }

    /// Returns whether pieces lie side by side.
    pub(super) fn is_side_by_side(&self) -> bool {
        self.interleaved > 1
    }

    /// Returns whether the inner loops can read the source itself.
    pub(super) fn is_plain(&self) -> bool {
        self.h.is_plain() && self.w.is_plain()
    }

    /// Returns whether the staged planes of consecutive pieces form one run of columns without
    /// gaps.
    pub(super) fn is_seamless(&self) -> bool {
        (self.spread[0] || self.h.reach == 0) && (self.spread[1] || self.w.reach == 0)
    }

    /// Distance between two rows of outputs, staged or plain.
    pub(super) fn row(&self) -> usize {
        self.w.positions() * self.interleaved + self.gap()
    }

    /// Number of columns between two rows that belong to no output.
    pub(super) fn gap(&self) -> usize {
        if self.spread[1] { 0 } else { self.w.reach * self.interleaved }
    }

    /// Number of values that a piece takes in one staged plane.
    pub(super) fn area(&self, piece: &Piece) -> usize {
        let reach = if self.spread[0] { 0 } else { self.h.reach };
        (piece.to - piece.from + reach) * self.row()
    }

    /// Number of staged planes per channel.
    pub(super) fn planes(&self) -> usize {
        self.h_views.len() * self.w_views.len()
    }

    /// Number of values in a channel of the source itself.
    pub(super) fn plain_channel(&self) -> usize {
        self.times * self.h.source * self.w.source
    }

    /// Returns the offset in the source itself of a piece's first position at source time `time`.
    pub(super) fn plain(&self, piece: &Piece, time: usize) -> usize {
        let plane = self.h.source * self.w.source;
        (piece.clip * self.channels * self.times + time) * plane + piece.from * self.w.source
    }

    /// All values of the source.
    pub(super) fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Returns the offset of a tap's first position in a staged channel with planes of `area`
    /// values.
    pub(super) fn offset(&self, h: &Tap, w: &Tap, area: usize) -> usize {
        let find = |views: &[(usize, usize)], tap: &Tap, spread: bool| {
            let view = (tap.plane, if spread { tap.shift } else { 0 });
            let plane = views.iter().position(|&v| v == view);
            let plane = plane.expect("a staged source has a plane for every tap");
            (plane, if spread { 0 } else { tap.shift })
        };
        let (h_plane, down) = find(&self.h_views, h, self.spread[0]);
        let (w_plane, right) = find(&self.w_views, w, self.spread[1]);
        (h_plane * self.w_views.len() + w_plane) * area
            + down * self.row()
            + right * self.interleaved
    }

    /// Stages one channel of a piece at source time `time`: writes its planes to `staged[start..]`,
    /// at a distance of `area`.
    pub(super) fn stage(
        &self,
        piece: &Piece,
        channel: usize,
        time: usize,
        area: usize,
        start: usize,
        staged: &mut [f32],
    ) {
        if self.spread == [false; 2] {
            return self.stage_shifted(piece, channel, time, area, start, staged);
        }
        // First stages the planes of the axes, then copies every tap's view of them.
        let (h, w) = (self.h, self.w);
        let rows = piece.to - piece.from;
        let wide = w.positions() + w.reach;
        let size = (rows + h.reach) * wide;
        let length = h.planes.len() * w.planes.len() * size + LANES;
        with_scratch(length, |shifted| {
            self.stage_shifted(piece, channel, time, size, 0, shifted);
            let row = self.row();
            let rows = self.area(piece) / row;
            for (hv, &(h_plane, down)) in self.h_views.iter().enumerate() {
                for (wv, &(w_plane, right)) in self.w_views.iter().enumerate() {
                    let from = (h_plane * w.planes.len() + w_plane) * size + down * wide + right;
                    let to = start + (hv * self.w_views.len() + wv) * area;
                    CopyRows {
                        source: &shifted[from..],
                        pitch: wide,
                        target: &mut staged[to..][..rows * row],
                        row,
                    }
                    .run();
                }
            }
        });
    }

    /// Stages one channel of pieces that lie side by side, each at its own source time. Positions
    /// in the padding are not written, since nothing reads them.
    pub(super) fn stage_side_by_side(
        &self,
        pieces: &[Piece],
        channel: usize,
        times: &[Option<usize>],
        area: usize,
        staged: &mut [f32],
    ) {
        let (h, w) = (self.h, self.w);
        let size = h.source * w.source;
        let plane = |(piece, time): (&Piece, &Option<usize>)| -> Option<&[f32]> {
            let plane = (piece.clip * self.channels + channel) * self.times + (*time)?;
            Some(&self.data[plane * size..][..size])
        };
        let planes: Vec<_> = pieces.iter().zip(times).map(plane).collect();
        let positions = staged.as_chunks_mut::<LANES>().0;
        let row = w.positions() + w.reach;
        let Piece { from, to, .. } = pieces[0];
        for (hp, &first) in h.planes.iter().enumerate() {
            for line in 0..to - from + h.reach {
                let source = first + ((from + line) * h.source_step) as isize;
                let Some(source) = usize::try_from(source).ok().filter(|&s| s < h.source) else {
                    continue;
                };
                for (wp, &from) in w.planes.iter().enumerate() {
                    let Inside { before, first, count } =
                        Inside::new(w.source, from, w.source_step, row);
                    if count == 0 {
                        continue;
                    }
                    let start = (hp * w.planes.len() + wp) * area / LANES + line * row + before;
                    let positions = &mut positions[start..][..count];
                    // Writes all lanes of a row before the next row, so that its positions stay in
                    // cache.
                    for (lane, plane) in planes.iter().enumerate() {
                        let Some(plane) = plane else { continue };
                        let source = &plane[source * w.source..][first..w.source];
                        put_lane(source, w.source_step, lane % LANES, positions);
                    }
                }
            }
        }
    }

    /// Stages a piece as planes of whole rows, including the reach, one for each pair of planes of
    /// the axes.
    pub(super) fn stage_shifted(
        &self,
        piece: &Piece,
        channel: usize,
        time: usize,
        area: usize,
        start: usize,
        staged: &mut [f32],
    ) {
        let size = self.h.source * self.w.source;
        let plane = (piece.clip * self.channels + channel) * self.times + time;
        let plane = &self.data[plane * size..][..size];
        dispatch(Shifted {
            axes: [self.h, self.w],
            piece,
            plane,
            area,
            staged: &mut staged[start..],
        });
    }
}

/// Stages one source plane of a piece: one staged plane for each pair of planes of the axes, at a
/// distance of `area`.
struct Shifted<'a> {
    axes: [&'a Axis; 2],
    piece: &'a Piece,
    plane: &'a [f32],
    area: usize,
    staged: &'a mut [f32],
}

impl WithSimd for Shifted<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { axes: [h, w], piece, plane, area, staged } = self;
        let shuffles = Shuffles::new();
        let rows = piece.to - piece.from + h.reach;
        let row = w.positions() + w.reach;
        for (wp, &from) in w.planes.iter().enumerate() {
            let inside = Inside::new(w.source, from, w.source_step, row);
            for (hp, &first) in h.planes.iter().enumerate() {
                let staged = &mut staged[(hp * w.planes.len() + wp) * area..][..rows * row];
                for line in 0..rows {
                    let source = first + ((piece.from + line) * h.source_step) as isize;
                    let source = usize::try_from(source).ok().filter(|&s| s < h.source);
                    // Extends beyond the row: surplus values of a copy are overwritten by the next
                    // rows.
                    let target = &mut staged[line * row..];
                    let Some(source) = source.filter(|_| inside.count > 0) else {
                        target[..row].fill(0.0);
                        continue;
                    };
                    let source = &plane[source * w.source + inside.first..];
                    let middle = &mut target[inside.before..];
                    match w.source_step {
                        1 => copy_over(source, middle, inside.count),
                        2 => pick_evens(shuffles, source, middle, inside.count),
                        step => {
                            let source = source.iter().step_by(step);
                            let middle = &mut middle[..inside.count];
                            middle.iter_mut().zip(source).for_each(|(to, &value)| *to = value);
                        }
                    }
                    target[..inside.before].fill(0.0);
                    target[inside.before + inside.count..row].fill(0.0);
                }
            }
        }
    }
}

/// Copies every second value, `count` in total, and a few more where both slices are long enough.
#[inline(always)]
fn pick_evens(shuffles: Shuffles, source: &[f32], target: &mut [f32], count: usize) {
    let pairs = source.as_chunks::<8>().0.as_chunks::<2>().0;
    let eights = target.as_chunks_mut::<8>().0;
    let whole = count.div_ceil(8).min(pairs.len()).min(eights.len());
    for (to, &pair) in eights[..whole].iter_mut().zip(&pairs[..whole]) {
        *to = shuffles.evens(pair);
    }
    for index in whole * 8..count {
        target[index] = source[2 * index];
    }
}

/// Writes every `step`-th value of a row to one lane of the positions.
fn put_lane(source: &[f32], step: usize, lane: usize, positions: &mut [[f32; LANES]]) {
    match step {
        1 => positions.iter_mut().zip(source).for_each(|(to, &value)| to[lane] = value),
        2 => {
            let last = positions.len() - 1;
            // The last value may not be part of a whole pair.
            positions[last][lane] = source[2 * last];
            let pairs = source.as_chunks::<2>().0;
            positions[..last].iter_mut().zip(pairs).for_each(|(to, pair)| to[lane] = pair[0]);
        }
        _ => {
            let source = source.iter().step_by(step);
            positions.iter_mut().zip(source).for_each(|(to, &value)| to[lane] = value);
        }
    }
}

/// The positions of a staged row that lie inside the source: after `before` positions of padding,
/// `count` positions, the first of which reads index `first` of the source.
struct Inside {
    before: usize,
    first: usize,
    count: usize,
}

impl Inside {
    /// Computes this for `row` positions that read the indices `from`, `from + step`, … of a source
    /// of length `length`.
    fn new(length: usize, from: isize, step: usize, row: usize) -> Self {
        let before = from.min(0).unsigned_abs().div_ceil(step).min(row);
        let first = (from + (before * step) as isize).max(0) as usize;
        let count = length.saturating_sub(first).div_ceil(step).min(row - before);
        Self { before, first, count }
    }
}

/// Copies `count` values, and a few more where both slices are long enough: this takes a few moves
/// of fixed length instead of the function call of an exact copy.
#[inline(always)]
fn copy_over(source: &[f32], target: &mut [f32], count: usize) {
    let rounded = count.next_multiple_of(LANES);
    if count <= 4 * LANES && rounded <= source.len() && rounded <= target.len() {
        let source = source[..rounded].as_chunks::<LANES>().0;
        for (to, from) in target[..rounded].as_chunks_mut::<LANES>().0.iter_mut().zip(source) {
            *to = *from;
        }
    } else {
        target[..count].copy_from_slice(&source[..count]);
    }
}
