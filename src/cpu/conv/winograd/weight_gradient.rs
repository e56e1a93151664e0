//! The weight gradient of 3×3 windows by F(3×3, 2×2): 16 products for a tile of four outputs in place
//! of 36. Tiles of the source and of dy are transformed, each of the 16 values is a matrix product
//! over all tiles, and the sums are transformed to the taps of the window.

use std::ops::Range;

use super::lines::Lines;
use super::transforms::{Collect, Spread, TILE};
use super::{has_window, window};
use crate::conv::axis::Axis;
use crate::conv::correlation::{CorrelateAll, Correlation, Panel};
use crate::conv::kernel::LANES;
use crate::conv::scratch::with_scratch;
use crate::conv::shape::ConvShape;
use crate::conv::transpose::{scatter, transpose};
use crate::conv::weight_gradient::units;

/// Tiles that are worked on together.
const TILES: usize = 256;

/// Input channels of a task.
const INPUTS: usize = 32;

/// Tiles of some planes: rows of one, or all of several.
struct Unit {
    planes: Range<usize>,
    rows: Range<usize>,
}

/// The weight gradient of one convolution.
pub(in crate::conv) struct WeightWinograd<'a> {
    shape: &'a ConvShape,
    axes: &'a [Axis; 3],
    panels: &'a [Panel],
    x: &'a [f32],
    dy: &'a [f32],
    units: Vec<Unit>,
    /// Tiles of a row.
    wide: usize,
    /// Tiles of the largest unit.
    most: usize,
}

impl<'a> WeightWinograd<'a> {
    /// The plan for a convolution that has such a window; else none.
    pub(in crate::conv) fn new(
        shape: &'a ConvShape,
        axes: &'a [Axis; 3],
        panels: &'a [Panel],
        [x, dy]: [&'a [f32]; 2],
    ) -> Option<Self> {
        let [_, h, w] = axes;
        if !has_window(h) || !has_window(w) {
            return None;
        }
        let [height, wide] = [h, w].map(|axis| axis.output.div_ceil(2));
        let rows = (TILES / wide).clamp(1, height);
        // As even as they go.
        let rows = height.div_ceil(height.div_ceil(rows));
        let planes = (TILES / (height * wide)).max(1);
        let bands = |planes: Range<usize>| {
            (0..height).step_by(rows).map(move |from| Unit {
                planes: planes.clone(),
                rows: from..(from + rows).min(height),
            })
        };
        let units: Vec<_> = units(axes, shape.batch, planes).into_iter().flat_map(bands).collect();
        let tiles = |unit: &Unit| unit.planes.len() * unit.rows.len() * wide;
        let most = units.iter().map(tiles).max()?;
        Some(Self { shape, axes, panels, x, dy, units, wide, most })
    }

    fn tiles(&self, unit: &Unit) -> usize {
        unit.planes.len() * unit.rows.len() * self.wide
    }
}

impl Correlation for WeightWinograd<'_> {
    fn units(&self) -> usize {
        self.units.len()
    }

    /// One tile more than there are: sixteen places a power of two apart would share one set of a
    /// cache.
    fn depth(&self) -> usize {
        TILE * (self.most + 1)
    }

    fn sums(&self) -> usize {
        self.shape.kernel[0] * TILE
    }

    fn block(&self) -> usize {
        INPUTS
    }

    fn prepare(&self, unit: usize, panel: Panel, target: &mut [f32]) {
        let unit = &self.units[unit];
        let [t, h, w] = self.axes;
        let (clips, channels, width) = (self.shape.batch, self.shape.out_channels, panel.width);
        let plane = h.output * w.output;
        let (from, to) = (2 * unit.rows.start, (2 * unit.rows.end).min(h.output));
        let size = (to - from) * w.output;
        let apart = (self.tiles(unit) + 1) * width;
        with_scratch(size * width, |room| {
            let mut tile = 0;
            for index in unit.planes.clone() {
                let (time, clip) = (index / clips, index % clips);
                let start = ((clip * channels + panel.first) * t.output + time) * plane;
                let dy = &self.dy[start + from * w.output..];
                transpose(dy, t.output * plane, panel.channels, size, width, room);
                for pair in room.chunks(2 * w.output * width) {
                    let (first, second) = pair.split_at(w.output * width);
                    let lines = [first, second];
                    let target = &mut target[tile * width..];
                    Spread { lines, width, tiles: self.wide, target, apart }.run();
                    tile += self.wide;
                }
            }
        });
    }

    /// The sums are `[kt, 16, inputs, width]`, panel after panel.
    fn sum(&self, inputs: Range<usize>, unit: usize, dy: &[f32], sums: &mut [f32]) {
        let unit = &self.units[unit];
        let [t, h, w] = self.axes;
        let clips = self.shape.batch;
        let (count, tiles) = (inputs.len(), self.tiles(unit));
        let apart = count * tiles + LANES;
        let times: Vec<_> = unit.planes.clone().map(|plane| t.taps_of(plane / clips)).collect();
        let mut starts = vec![0; count];
        with_scratch(TILE * apart + Lines::room(self.wide), |room| {
            let (x, room) = room.split_at_mut(TILE * apart);
            let mut lines = Lines::new([h, w], self.wide, room);
            // All planes of a unit are reached by the same time taps.
            for (number, &(tap, _)) in times[0].iter().enumerate() {
                let mut target = 0;
                for input in inputs.clone() {
                    for (plane, times) in unit.planes.clone().zip(&times) {
                        let (_, time) = times[number];
                        let source = (plane % clips * self.shape.in_channels + input) * t.source;
                        let source = &self.x[(source + time) * h.source * w.source..];
                        for row in unit.rows.clone() {
                            lines.read(source, row, row > unit.rows.start);
                            lines.tiles(0, self.wide, &mut x[target..], apart);
                            target += self.wide;
                        }
                    }
                }
                for value in 0..TILE {
                    for (index, start) in starts.iter_mut().enumerate() {
                        *start = value * apart + index * tiles;
                    }
                    for &Panel { first, width, .. } in self.panels {
                        let dy = &dy[first * self.depth() + value * (tiles + 1) * width..];
                        let base = first * self.sums() * count;
                        let base = base + (tap * TILE + value) * count * width;
                        CorrelateAll {
                            x,
                            starts: &starts,
                            pitch: tiles,
                            row: tiles,
                            dy: &dy[..tiles * width],
                            width,
                            sums: &mut sums[base..][..count * width],
                        }
                        .run();
                    }
                }
            }
        });
    }

    fn put(&self, inputs: usize, panel: Panel, sums: &[f32], lines: &mut [&mut [f32]]) {
        let [_, h, w] = self.axes;
        let (kt, width, taps) = (self.shape.kernel[0], panel.width, window([h, w]));
        with_scratch(9 * width, |window| {
            for time in 0..kt {
                for c in 0..inputs {
                    let sums = &sums[(time * TILE * inputs + c) * width..];
                    Collect { sums, apart: inputs * width, width, taps, window }.run();
                    for (group, lines) in lines.chunks_mut(8).enumerate() {
                        scatter(window, width, group * 8, lines, (c * kt + time) * 9);
                    }
                }
            }
        });
    }
}
