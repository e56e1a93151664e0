//! Staging: copying the sources of a few rows of outputs into planes (see [`super::axis`]), padding
//! included, so that the inner loops only ever read consecutive values.

use pulp::{Simd, WithSimd};

use super::axis::{Axis, Tap};
use super::kernel::{CopyRows, LANES};
use super::scratch::with_scratch;
use super::transpose::Shuffles;
use crate::simd::dispatch;

/// A band of outputs: positions `from..to` along the height of one plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Clip.
    pub clip: usize,
    /// Output time.
    pub time: usize,
    /// First position along the height, in phase positions.
    pub from: usize,
    /// One past the last position.
    pub to: usize,
}

/// Rows shorter than this get a staged plane per tap of the width: the copies cost less than
/// computing the columns between rows.
const SHORT_ROW: usize = 40;

/// Planes smaller than this get one per tap of the height as well.
const SMALL_PLANE: usize = 256;

/// A source `[clips, channels, T, H, W]` and how it is staged.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    data: &'a [f32],
    channels: usize,
    times: usize,
    h: &'a Axis,
    w: &'a Axis,
    /// Planes that are staged, as (plane, shift) of the axis; without spreading shift is 0.
    h_views: Vec<(usize, usize)>,
    w_views: Vec<(usize, usize)>,
    /// Staged planes hold only what one tap reads.
    spread: [bool; 2],
    /// Pieces whose values lie side by side, position after position.
    together: usize,
}

impl<'a> Source<'a> {
    /// Chooses how to stage.
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
            together: 1,
        }
    }

    /// The same source, staged so that [`LANES`] pieces lie side by side: a vector holds the same
    /// position of all of them, so that taps in the padding can be left out at each position, and
    /// no view of a plane is needed but the plane itself.
    pub(super) fn side_by_side(self) -> Self {
        Self {
            together: LANES,
            ..Self::with_spread(self.data, self.channels, self.times, [self.h, self.w], [false; 2])
        }
    }

    /// Whether a product of packed sources is faster than shifted views: where rows are short,
    /// views start anywhere between cache lines, and where taps look along time alone, each step
    /// reads from a page of its own. In longer rows the copies cost more than that.
    pub(super) fn is_best_packed(&self) -> bool {
        self.is_seamless() || self.w.positions() < SHORT_ROW
    }

    /// Values from one position of a piece to the next.
    pub(super) fn apart(&self) -> usize {
        self.together
    }

    /// Whether pieces lie side by side.
    pub(super) fn is_side_by_side(&self) -> bool {
        self.together > 1
    }

    /// Whether the inner loops can read the source itself.
    pub(super) fn is_plain(&self) -> bool {
        self.h.is_plain() && self.w.is_plain()
    }

    /// Whether staged planes of consecutive pieces are one run of columns without gaps.
    pub(super) fn is_seamless(&self) -> bool {
        (self.spread[0] || self.h.reach == 0) && (self.spread[1] || self.w.reach == 0)
    }

    /// Values from one row of outputs to the next, staged or plain.
    pub(super) fn row(&self) -> usize {
        self.w.positions() * self.together + self.gap()
    }

    /// Columns between rows that belong to no output.
    pub(super) fn gap(&self) -> usize {
        if self.spread[1] { 0 } else { self.w.reach * self.together }
    }

    /// Values that a piece takes in one plane.
    pub(super) fn area(&self, piece: &Piece) -> usize {
        let reach = if self.spread[0] { 0 } else { self.h.reach };
        (piece.to - piece.from + reach) * self.row()
    }

    /// Staged planes per channel.
    pub(super) fn planes(&self) -> usize {
        self.h_views.len() * self.w_views.len()
    }

    /// Values in a channel of the source itself.
    pub(super) fn plain_channel(&self) -> usize {
        self.times * self.h.source * self.w.source
    }

    /// The source itself from a piece's first position on, at source time `time`.
    pub(super) fn plain(&self, piece: &Piece, time: usize) -> usize {
        let plane = self.h.source * self.w.source;
        (piece.clip * self.channels * self.times + time) * plane + piece.from * self.w.source
    }

    /// All values of the source.
    pub(super) fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Where a tap's first position is from the start of a staged channel with planes of `area`.
    pub(super) fn place(&self, h: &Tap, w: &Tap, area: usize) -> usize {
        let find = |views: &[(usize, usize)], tap: &Tap, spread: bool| {
            let view = (tap.plane, if spread { tap.shift } else { 0 });
            let plane = views.iter().position(|&v| v == view);
            let plane = plane.expect("a staged source has a plane for every tap");
            (plane, if spread { 0 } else { tap.shift })
        };
        let (h_plane, down) = find(&self.h_views, h, self.spread[0]);
        let (w_plane, right) = find(&self.w_views, w, self.spread[1]);
        (h_plane * self.w_views.len() + w_plane) * area + down * self.row() + right * self.together
    }

    /// Writes one channel of a piece at source time `time` to `staged[start..]` and, for the
    /// further planes, `area` values on.
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
        // The shifted planes first, then every tap's view of them.
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

    /// Writes one channel of pieces that lie side by side, each with its source time. Positions in
    /// the padding are not written, for nothing reads them.
    pub(super) fn stage_together(
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
        let places = staged.as_chunks_mut::<LANES>().0;
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
                    let places = &mut places[start..][..count];
                    // All lanes of a row in turn, so that their positions stay in cache.
                    for (lane, plane) in planes.iter().enumerate() {
                        let Some(plane) = plane else { continue };
                        let source = &plane[source * w.source..][first..w.source];
                        put_lane(source, w.source_step, lane % LANES, places);
                    }
                }
            }
        }
    }

    /// Stages a piece as planes of whole rows, the reach included, one for each plane of the axes.
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

/// Stages one plane of a piece, for each plane of the axes `area` values on.
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
                    // The rest of the plane, too: what a copy writes too much, the next rows overwrite.
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

/// Copies every second value, `count` in all, and some more where both sides have room for them.
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
fn put_lane(source: &[f32], step: usize, lane: usize, places: &mut [[f32; LANES]]) {
    match step {
        1 => places.iter_mut().zip(source).for_each(|(place, &value)| place[lane] = value),
        2 => {
            let last = places.len() - 1;
            // The last may be alone, without a whole chunk.
            places[last][lane] = source[2 * last];
            let pairs = source.as_chunks::<2>().0;
            places[..last].iter_mut().zip(pairs).for_each(|(place, pair)| place[lane] = pair[0]);
        }
        _ => {
            let source = source.iter().step_by(step);
            places.iter_mut().zip(source).for_each(|(place, &value)| place[lane] = value);
        }
    }
}

/// Which positions of a staged row lie in the source: after `before` others `count` positions, from
/// number `first` of the source on.
struct Inside {
    before: usize,
    first: usize,
    count: usize,
}

impl Inside {
    /// For `row` positions that read `from`, `from + step`, … of a source of length `length`.
    fn new(length: usize, from: isize, step: usize, row: usize) -> Self {
        let before = from.min(0).unsigned_abs().div_ceil(step).min(row);
        let first = (from + (before * step) as isize).max(0) as usize;
        let count = length.saturating_sub(first).div_ceil(step).min(row - before);
        Self { before, first, count }
    }
}

/// Copies `count` values, and some more where both sides have room for them: a few moves of fixed
/// length where an exact copy is a call.
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
