//! The gradient of the weights.
//!
//! Every weight gradient is a correlation of one shifted source plane with one plane of dy, over
//! all positions. With dy transposed to `[positions, channels]`, [`TAPS`] taps times a panel of
//! channels are summed in registers. Tasks are blocks of input channels; where those are too few
//! for many cores, the positions are cut as well, into parts that are added in order afterwards.
//! The cut depends on sizes alone, so the result has the same bits whatever the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::axis::Axis;
use super::kernel::{Correlate, LANES, TAPS, panel_widths, taps_at_once};
use super::scratch::with_scratch;
use super::stage::{Piece, Source};
use super::transpose::{scatter, transpose};
use super::{check, forward_axes};
use crate::conv::ConvShape;

/// Rows (taps of some channels) of the gradient that a task aims at.
const LINES: usize = 144;

/// Tasks wanted at least, so that many cores find work.
const TASKS: usize = 16;

/// Values of dy that are transposed before tasks use them: few enough for the last-level cache.
const BATCH: usize = 1 << 20;

/// Positions worked on at a time: the second-level cache keeps their panel of dy while all taps run
/// over them.
const STAGED: usize = 512;

/// Planes smaller than this are put next to each other.
const SMALL_PLANE: usize = 128;

/// `dw[k,c,i,j,l] = Σ_{n,t,h,w} dy[n,k,t,h,w] · x[n,c,t·st−pt+i, h·sh−ph+j, w·sw−pw+l]`.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    check(shape, x.len(), dw.len(), dy.len());
    if dw.is_empty() {
        return;
    }
    if dy.is_empty() {
        dw.fill(0.0);
        return;
    }
    let axes = forward_axes(shape);
    let widths = panel_widths(shape.out_channels);
    let columns: usize = widths.iter().sum();
    let job = Job { shape, axes: &axes, widths: &widths, columns, x };

    let size = axes[1].output * axes[2].output;
    let units = units(&axes, shape.batch, job.planes_at_once());
    let room = size * units.iter().map(|unit| unit.len()).max().unwrap_or(1);
    let per_batch = (BATCH / (room * columns)).clamp(1, units.len());
    let taps = shape.kernel.iter().product::<usize>();
    let block = LINES.div_ceil(taps).min(shape.in_channels);
    let block = shape.in_channels.div_ceil(shape.in_channels.div_ceil(block));
    let blocks = shape.in_channels.div_ceil(block);
    let parts = TASKS.div_ceil(blocks).min(per_batch);
    let batches = units.len().div_ceil(per_batch);

    let mut tasks: Vec<Task> = (0..shape.in_channels)
        .step_by(block)
        .map(|first| Task {
            first,
            channels: block.min(shape.in_channels - first),
            lines: Vec::with_capacity(shape.out_channels),
            sums: vec![Vec::new(); parts],
        })
        .collect();
    for line in dw.chunks_mut(shape.in_channels * taps) {
        for (task, part) in tasks.iter_mut().zip(line.chunks_mut(block * taps)) {
            task.lines.push(part);
        }
    }
    let times = axes[0].output;
    with_scratch(per_batch * room * columns, |transposed| {
        for (batch, units) in units.chunks(per_batch).enumerate() {
            transposed.par_chunks_mut(room * columns).zip(units).for_each(|(transposed, unit)| {
                for (index, plane) in unit.clone().enumerate() {
                    let (time, clip) = (plane / shape.batch, plane % shape.batch);
                    let dy = &dy[(clip * shape.out_channels * times + time) * size..];
                    let from = index * size;
                    let channels = shape.out_channels;
                    transpose(
                        dy,
                        times * size,
                        channels,
                        size,
                        &widths,
                        transposed,
                        unit.len() * size,
                        from,
                    );
                }
            });
            let transposed = &*transposed;
            tasks.par_iter_mut().for_each(|task| {
                let Task { first, channels, lines, sums } = task;
                sums.par_iter_mut().enumerate().for_each(|(part, sums)| {
                    sums.resize(*channels * taps * columns, 0.0);
                    for unit in part * units.len() / parts..(part + 1) * units.len() / parts {
                        let transposed = &transposed[unit * room * columns..][..room * columns];
                        job.sum(*first, *channels, units[unit].clone(), transposed, sums);
                    }
                });
                if batch + 1 == batches {
                    let (total, others) = sums.split_at_mut(1);
                    for other in others {
                        total[0].iter_mut().zip(other).for_each(|(total, sum)| *total += *sum);
                    }
                    job.put(*channels, &total[0], lines);
                    sums.clear();
                }
            });
        }
    });
}

/// Output planes that are worked on together, in the order of times: up to `most` that are reached
/// by the same time taps.
fn units(axes: &[Axis; 3], clips: usize, most: usize) -> Vec<Range<usize>> {
    let [t, ..] = axes;
    let taps = |plane: usize| -> Vec<usize> {
        t.taps_of(plane / clips).into_iter().map(|(tap, _)| tap).collect()
    };
    let mut units: Vec<Range<usize>> = Vec::new();
    for plane in 0..t.output * clips {
        match units.last_mut() {
            Some(unit) if unit.len() < most && taps(unit.start) == taps(plane) => unit.end += 1,
            _ => units.push(plane..plane + 1),
        }
    }
    units
}

/// A block of input channels.
struct Task<'a> {
    /// First of them.
    first: usize,
    /// How many.
    channels: usize,
    /// Their part of dw, per output channel.
    lines: Vec<&'a mut [f32]>,
    /// Their sums over each part of the positions.
    sums: Vec<Vec<f32>>,
}

/// What all tasks share.
struct Job<'a> {
    shape: &'a ConvShape,
    axes: &'a [Axis; 3],
    /// Channels per panel of dy.
    widths: &'a [usize],
    /// Sum of `widths`.
    columns: usize,
    x: &'a [f32],
}

impl Job<'_> {
    fn source(&self) -> Source<'_> {
        let [t, h, w] = self.axes;
        Source::new(self.x, self.shape.in_channels, t.source, [h, w])
    }

    /// How many planes make a long enough row of positions, where planes can be put next to each
    /// other.
    fn planes_at_once(&self) -> usize {
        let size = self.axes[1].output * self.axes[2].output;
        let small = self.source().is_seamless() && size < SMALL_PLANE;
        if small { (STAGED / size).max(1) } else { 1 }
    }

    /// Adds some output planes (one of [`units`]) to sums `[kt, channels, kh, kw, width]`, panel
    /// after panel.
    fn sum(
        &self,
        first: usize,
        channels: usize,
        planes: Range<usize>,
        transposed: &[f32],
        sums: &mut [f32],
    ) {
        let [t, h, w] = self.axes;
        let clips = self.shape.batch;
        let source = self.source();
        let many = planes.len() > 1;
        let plain = source.is_plain() && !many;
        let row = source.row();
        let rows = if many { h.output } else { (STAGED / row).clamp(1, h.output) };
        let part = source.area(&Piece { clip: 0, time: 0, from: 0, to: rows });
        let area = part * planes.len();
        let channel = if plain { source.plain_channel() } else { source.planes() * area };
        let [kt, kh, kw] = self.shape.kernel;
        let lines = channels * kh * kw;
        let size = planes.len() * h.output * w.output;
        // Taps of a channel, in the order of the kernel.
        let places: Vec<usize> = h.phases[0]
            .taps
            .iter()
            .flat_map(|th| w.phases[0].taps.iter().map(move |tw| (th, tw)))
            .map(|(th, tw)| source.place(th, tw, area))
            .collect();
        let length = if plain { 0 } else { kt * channels * channel + LANES };
        let mut spare = vec![0.0; TAPS * self.columns];
        with_scratch(length, |staged| {
            let mut starts = Vec::with_capacity(kt * lines);
            let times: Vec<_> = planes.clone().map(|plane| t.taps_of(plane / clips)).collect();
            let Some(&(first_tap, _)) = times[0].first() else { return };
            for from in (0..h.output).step_by(rows) {
                let to = (from + rows).min(h.output);
                let piece = |plane| Piece { clip: plane % clips, time: plane / clips, from, to };
                starts.clear();
                for (number, &(_, first_time)) in times[0].iter().enumerate() {
                    for c in 0..channels {
                        let start = if plain {
                            let start = source.plain(&piece(planes.start), first_time);
                            start + (first + c) * channel
                        } else {
                            let start = (number * channels + c) * channel;
                            let staged = &mut staged[start..][..channel];
                            for (index, plane) in planes.clone().enumerate() {
                                let (_, time) = times[index][number];
                                let start = index * part;
                                source.stage(&piece(plane), first + c, time, area, start, staged);
                            }
                            start
                        };
                        starts.extend(places.iter().map(|place| start + place));
                    }
                }
                let x = if plain { self.x } else { &*staged };
                let mut column = 0;
                for &width in self.widths {
                    let panel = &transposed[column * size..][..width * size];
                    let base = column * kt * lines + first_tap * lines * width;
                    let sums = &mut sums[base..][..starts.len() * width];
                    let band = if many { 0..planes.len() * rows } else { from..to };
                    self.panel(x, &starts, row, band, panel, width, sums, &mut spare);
                    column += width;
                }
            }
        });
    }

    /// One panel of dy over the rows `band` of one plane.
    #[allow(clippy::too_many_arguments)]
    fn panel(
        &self,
        x: &[f32],
        starts: &[usize],
        pitch: usize,
        band: Range<usize>,
        panel: &[f32],
        width: usize,
        sums: &mut [f32],
        spare: &mut [f32],
    ) {
        let w = self.axes[2].output;
        let dy = &panel[band.start * w * width..band.end * w * width];
        // Without gaps between the rows of x, all positions are one long row.
        let row = if pitch == w { band.len() * w } else { w };
        let taps = taps_at_once(width);
        for (group, sums) in starts.chunks(taps).zip(sums.chunks_mut(taps * width)) {
            // A last group may be short; its surplus sums are dropped.
            let mut starts = [group[0]; TAPS];
            starts[..group.len()].copy_from_slice(group);
            let starts = &starts;
            if group.len() == taps {
                Correlate { x, starts, pitch, row, dy, width, sums }.run();
            } else {
                let spare = &mut spare[..taps * width];
                spare[..sums.len()].copy_from_slice(sums);
                Correlate { x, starts, pitch, row, dy, width, sums: &mut *spare }.run();
                sums.copy_from_slice(&spare[..sums.len()]);
            }
        }
    }

    /// Writes dw's lines `[channels, kt, kh, kw]`, one per output channel.
    fn put(&self, channels: usize, sums: &[f32], lines: &mut [&mut [f32]]) {
        let [kt, kh, kw] = self.shape.kernel;
        let taps = kh * kw;
        let mut column = 0;
        for &width in self.widths {
            let base = column * kt * channels * taps;
            let count = width.min(lines.len() - column);
            let lines = &mut lines[column..][..count];
            for (group, lines) in lines.chunks_mut(8).enumerate() {
                for time in 0..kt {
                    for c in 0..channels {
                        let at = base + (time * channels + c) * taps * width;
                        let sums = &sums[at..][..taps * width];
                        let place = (c * kt + time) * taps;
                        scatter(sums, width, group * 8, lines, place);
                    }
                }
            }
            column += width;
        }
    }
}
