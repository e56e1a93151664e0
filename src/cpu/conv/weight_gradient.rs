//! The gradient of the weights.
//!
//! Every weight's gradient is a correlation of a shifted source plane with a plane of dy over all
//! positions. With dy transposed to `[positions, channels]`, the sums of several taps times a panel
//! of channels are kept in registers.

use std::ops::Range;

use super::axis::Axis;
use super::correlation::{self, Correlation, Panel, correlate, panels};
use super::kernel::{Correlate, LANES, panel_widths};
use super::scratch::with_scratch;
use super::stage::{Piece, Source};
use super::transpose::{scatter, transpose};
use super::winograd::WeightWinograd;
use super::{check, forward_axes, in_pool};
use crate::conv::ConvShape;

/// Target number of rows (taps of some channels) of the gradient per task.
const LINES: usize = 144;

/// Number of positions processed at a time: few enough for their panel of dy to stay in the
/// second-level cache while all taps are computed.
const STAGED: usize = 512;

/// Planes smaller than this are concatenated.
const SMALL_PLANE: usize = 128;

/// Computes the weight gradient
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
    let panels = panels(shape.out_channels, &panel_widths(shape.out_channels));
    let winograd = WeightWinograd::new(shape, &axes, &panels, [x, dy]);
    if let Some(winograd) = winograd.filter(WeightWinograd::is_worthwhile) {
        return in_pool(|| correlation::run(&winograd, shape, &panels, dw));
    }
    let direct = Direct::new(shape, &axes, &panels, [x, dy]);
    in_pool(|| correlation::run(&direct, shape, &panels, dw));
}

/// Returns the ranges of output planes, ordered by time, that are processed together: up to `most`
/// planes that are reached by the same time taps.
pub(super) fn units(axes: &[Axis; 3], clips: usize, most: usize) -> Vec<Range<usize>> {
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

/// The direct sum over all taps.
struct Direct<'a> {
    shape: &'a ConvShape,
    axes: &'a [Axis; 3],
    panels: &'a [Panel],
    x: &'a [f32],
    dy: &'a [f32],
    units: Vec<Range<usize>>,
    /// Number of positions of the largest unit.
    depth: usize,
}

impl<'a> Direct<'a> {
    fn new(
        shape: &'a ConvShape,
        axes: &'a [Axis; 3],
        panels: &'a [Panel],
        [x, dy]: [&'a [f32]; 2],
    ) -> Self {
        let mut direct = Self { shape, axes, panels, x, dy, units: Vec::new(), depth: 0 };
        direct.units = units(axes, shape.batch, direct.planes_at_once());
        direct.depth = direct.size() * direct.units.iter().map(Range::len).max().unwrap_or(0);
        direct
    }

    fn source(&self) -> Source<'_> {
        let [t, h, w] = self.axes;
        Source::new(self.x, self.shape.in_channels, t.source, [h, w])
    }

    /// Returns how many planes make up a long enough row of positions, if planes are small and can
    /// be concatenated, else 1.
    fn planes_at_once(&self) -> usize {
        let size = self.size();
        let small = self.source().is_seamless() && size < SMALL_PLANE;
        if small { (STAGED / size).max(1) } else { 1 }
    }

    /// Number of positions of an output plane.
    fn size(&self) -> usize {
        self.axes[1].output * self.axes[2].output
    }

    /// Adds a unit to the sums `[kt, channels, kh, kw, width]`, panel by panel.
    fn add(&self, inputs: Range<usize>, unit: usize, dy: &[f32], sums: &mut [f32]) {
        let [t, h, w] = self.axes;
        let clips = self.shape.batch;
        let source = self.source();
        let planes = self.units[unit].clone();
        let channels = inputs.len();
        let many = planes.len() > 1;
        let plain = source.is_plain() && !many;
        let pitch = source.row();
        let rows = if many { h.output } else { (STAGED / pitch).clamp(1, h.output) };
        let part = source.area(&Piece { clip: 0, time: 0, from: 0, to: rows });
        let area = part * planes.len();
        let channel = if plain { source.plain_channel() } else { source.planes() * area };
        let [kt, kh, kw] = self.shape.kernel;
        let lines = channels * kh * kw;
        let size = planes.len() * self.size();
        // Offsets of a channel's taps, in the order of the kernel.
        let offsets: Vec<usize> = h.phases[0]
            .taps
            .iter()
            .flat_map(|th| w.phases[0].taps.iter().map(move |tw| (th, tw)))
            .map(|(th, tw)| source.offset(th, tw, area))
            .collect();
        let length = if plain { 0 } else { kt * channels * channel + LANES };
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
                            start + (inputs.start + c) * channel
                        } else {
                            let start = (number * channels + c) * channel;
                            let staged = &mut staged[start..][..channel];
                            for (index, plane) in planes.clone().enumerate() {
                                let (_, time) = times[index][number];
                                let start = index * part;
                                source.stage(
                                    &piece(plane),
                                    inputs.start + c,
                                    time,
                                    area,
                                    start,
                                    staged,
                                );
                            }
                            start
                        };
                        starts.extend(offsets.iter().map(|offset| start + offset));
                    }
                }
                let x = if plain { self.x } else { &*staged };
                let band = if many { 0..planes.len() * rows } else { from..to };
                // Without gaps between the rows of x, all positions form one long row.
                let row = if pitch == w.output { band.len() * w.output } else { w.output };
                for &Panel { first: column, width, .. } in self.panels {
                    let positions = band.start * w.output..band.end * w.output;
                    let dy = &dy[column * self.depth..][..width * size];
                    let dy = &dy[positions.start * width..positions.end * width];
                    let base = column * kt * lines + first_tap * lines * width;
                    let sums = &mut sums[base..][..starts.len() * width];
                    correlate(Correlate { x, starts: &starts, pitch, row, dy, width, sums });
                }
            }
        });
    }
}

impl Correlation for Direct<'_> {
    fn units(&self) -> usize {
        self.units.len()
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn sums(&self) -> usize {
        self.shape.taps()
    }

    fn block(&self) -> usize {
        LINES.div_ceil(self.shape.taps())
    }

    fn prepare(&self, unit: usize, panel: Panel, target: &mut [f32]) {
        let (shape, size) = (self.shape, self.size());
        let times = self.axes[0].output;
        for (index, plane) in self.units[unit].clone().enumerate() {
            let (time, clip) = (plane / shape.batch, plane % shape.batch);
            let row = (clip * shape.out_channels + panel.first) * times + time;
            let target = &mut target[index * size * panel.width..];
            let dy = &self.dy[row * size..];
            transpose(dy, times * size, panel.channels, size, panel.width, target);
        }
    }

    fn sum(&self, inputs: Range<usize>, units: Range<usize>, dy: &[f32], sums: &mut [f32]) {
        let columns: usize = self.panels.iter().map(|panel| panel.width).sum();
        for (unit, dy) in units.zip(dy.chunks_exact(self.depth * columns)) {
            self.add(inputs.clone(), unit, dy, sums);
        }
    }

    fn put(&self, inputs: usize, panel: Panel, sums: &[f32], lines: &mut [&mut [f32]]) {
        let [kt, kh, kw] = self.shape.kernel;
        let (taps, width) = (kh * kw, panel.width);
        for (group, lines) in lines.chunks_mut(8).enumerate() {
            for time in 0..kt {
                for c in 0..inputs {
                    let sums = &sums[(time * inputs + c) * taps * width..][..taps * width];
                    scatter(sums, width, group * 8, lines, (c * kt + time) * taps);
                }
            }
        }
    }
}
