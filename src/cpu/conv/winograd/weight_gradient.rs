//! The weight gradient of 3×3 windows by F(3×3, 2×2): 16 products per tile of four outputs instead
//! of
//! 36. Tiles of the source and of dy are transformed, each of the 16 values goes through a matrix
//! product over all tiles, and the sums are transformed to the taps of the window.

use std::collections::BTreeMap;
use std::ops::Range;

use super::gradient_transforms::{GradientTransform, WindowGradient};
use super::lines::Lines;
use super::transforms::TILE;
use super::{CHANNELS, has_window, window};
use crate::conv::axis::Axis;
use crate::conv::correlation::{Correlation, Panel, correlate};
use crate::conv::kernel::{Correlate, LANES};
use crate::conv::scratch::with_scratch;
use crate::conv::shape::ConvShape;
use crate::conv::transpose::{scatter, transpose};
use crate::conv::weight_gradient::units;

/// Number of tiles that are processed together.
const TILES: usize = 256;

/// Number of input channels per task.
const INPUTS: usize = 32;

/// Cost of clearing, adding up and transforming the sums of a pair of channels, in tiles.
const SUMS: usize = 128;

/// Tiles of some planes: some rows of one plane, or all rows of several.
struct Unit {
    planes: Range<usize>,
    rows: Range<usize>,
}

/// The sources that a time tap of a unit reads: planes as (clip, time), and rows of tiles.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Sources {
    planes: Vec<(usize, usize)>,
    rows: (usize, usize),
}

impl Sources {
    fn rows(&self) -> Range<usize> {
        self.rows.0..self.rows.1
    }
}

/// The weight gradient of one convolution.
pub(in crate::conv) struct WeightWinograd<'a> {
    shape: &'a ConvShape,
    axes: &'a [Axis; 3],
    panels: &'a [Panel],
    x: &'a [f32],
    dy: &'a [f32],
    units: Vec<Unit>,
    /// Number of tiles per row.
    wide: usize,
    /// Number of tiles of the largest unit.
    most: usize,
}

impl<'a> WeightWinograd<'a> {
    /// Plans the computation; `None` unless the convolution has 3×3 taps and stride 1 within the
    /// plane.
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
        // Evens out the number of rows per unit.
        let rows = height.div_ceil(height.div_ceil(rows));
        let planes = (TILES / (height * wide)).max(1);
        let bands = |planes: Range<usize>| {
            (0..height).step_by(rows).map(move |from| Unit {
                planes: planes.clone(),
                rows: from..(from + rows).min(height),
            })
        };
        let mut units: Vec<_> =
            units(axes, shape.batch, planes).into_iter().flat_map(bands).collect();
        if planes == 1 {
            // Makes units that read the same sources at different taps adjacent.
            units.sort_by_key(|unit| (unit.planes.start % shape.batch, unit.rows.start));
        }
        let tiles = |unit: &Unit| unit.planes.len() * unit.rows.len() * wide;
        let most = units.iter().map(tiles).max()?;
        Some(Self { shape, axes, panels, x, dy, units, wide, most })
    }

    /// Returns whether this is faster than the direct sum over all taps, by a cost model fitted to
    /// measurements.
    pub(in crate::conv) fn is_worthwhile(&self) -> bool {
        let ConvShape { in_channels, out_channels, kernel, .. } = *self.shape;
        let [t, h, w] = self.axes;
        let taps = |unit: &Unit| t.taps_of(unit.planes.start / self.shape.batch).len();
        let tiles: usize = self.units.iter().map(|unit| taps(unit) * self.tiles(unit)).sum();
        let pairs: usize = (0..t.output).map(|time| t.taps_of(time).len()).sum();
        let direct = self.shape.batch * pairs * h.output * w.output * 9;
        let share = in_channels * out_channels;
        let products = tiles * (share + CHANNELS * (in_channels + out_channels));
        TILE * (products + kernel[0] * SUMS * share) < direct * share / 10 * 9
    }

    fn tiles(&self, unit: &Unit) -> usize {
        unit.planes.len() * unit.rows.len() * self.wide
    }

    /// Returns the sources that some units read, each with its uses as (unit, time tap).
    fn uses(&self, units: Range<usize>) -> BTreeMap<Sources, Vec<(usize, usize)>> {
        let clips = self.shape.batch;
        let mut uses: BTreeMap<Sources, Vec<_>> = BTreeMap::new();
        for index in units {
            let unit = &self.units[index];
            let times = |plane: usize| self.axes[0].taps_of(plane / clips);
            // All planes of a unit are reached by the same time taps.
            for (number, (tap, _)) in times(unit.planes.start).into_iter().enumerate() {
                let source = |plane: usize| (plane % clips, times(plane)[number].1);
                let planes = unit.planes.clone().map(source).collect();
                let sources = Sources { planes, rows: (unit.rows.start, unit.rows.end) };
                uses.entry(sources).or_default().push((index, tap));
            }
        }
        uses
    }

    /// Transforms sources to `[16, inputs, tiles]`, where the first dimension has the stride
    /// `value_stride`.
    fn transform(
        &self,
        inputs: Range<usize>,
        sources: &Sources,
        x: &mut [f32],
        value_stride: usize,
    ) {
        let [t, h, w] = self.axes;
        with_scratch(Lines::room(sources.rows().len(), self.wide), |room| {
            let mut lines = Lines::new([h, w], self.wide, room);
            let mut target = 0;
            for input in inputs {
                for &(clip, time) in &sources.planes {
                    let source = (clip * self.shape.in_channels + input) * t.source + time;
                    let source = &self.x[source * h.source * w.source..];
                    lines.read(source, sources.rows());
                    for row in sources.rows() {
                        lines.tiles(row, 0..self.wide, &mut x[target..], value_stride);
                        target += self.wide;
                    }
                }
            }
        });
    }

    /// Adds the products of transformed tiles of x and dy to the sums of a time tap.
    fn multiply(
        &self,
        inputs: usize,
        tap: usize,
        tiles: usize,
        [x, dy]: [&[f32]; 2],
        sums: &mut [f32],
    ) {
        let value_stride = inputs * tiles + LANES;
        for value in 0..TILE {
            let start = |input: usize| value * value_stride + input * tiles;
            let starts: Vec<_> = (0..inputs).map(start).collect();
            for &Panel { first, width, .. } in self.panels {
                let dy = &dy[first * self.depth() + value * (tiles + 1) * width..];
                let base = first * self.sums() * inputs + (tap * TILE + value) * inputs * width;
                correlate(Correlate {
                    x,
                    starts: &starts,
                    pitch: tiles,
                    row: tiles,
                    dy: &dy[..tiles * width],
                    width,
                    sums: &mut sums[base..][..inputs * width],
                });
            }
        }
    }
}

impl Correlation for WeightWinograd<'_> {
    fn units(&self) -> usize {
        self.units.len()
    }

    /// Includes one extra tile, since sixteen addresses whose distance is a power of two would map
    /// to the same cache set.
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
        let value_stride = (self.tiles(unit) + 1) * width;
        with_scratch(size * width, |room| {
            let mut tile = 0;
            for index in unit.planes.clone() {
                let (time, clip) = (index / clips, index % clips);
                let start = ((clip * channels + panel.first) * t.output + time) * plane;
                let dy = &self.dy[start + from * w.output..];
                transpose(dy, t.output * plane, panel.channels, size, width, room);
                for pair in room.chunks(2 * w.output * width) {
                    let (first, second) = pair.split_at(w.output * width);
                    let (lines, tiles) = ([first, second], self.wide);
                    let target = &mut target[tile * width..];
                    GradientTransform { lines, width, tiles, target, value_stride }.run();
                    tile += self.wide;
                }
            }
        });
    }

    /// The sums are `[kt, 16, inputs, width]` for each panel.
    fn sum(&self, inputs: Range<usize>, units: Range<usize>, dy: &[f32], sums: &mut [f32]) {
        let columns: usize = self.panels.iter().map(|panel| panel.width).sum();
        let room = self.depth() * columns;
        for (sources, uses) in self.uses(units.clone()) {
            let tiles = sources.planes.len() * sources.rows().len() * self.wide;
            let value_stride = inputs.len() * tiles + LANES;
            with_scratch(TILE * value_stride, |x| {
                self.transform(inputs.clone(), &sources, x, value_stride);
                for (unit, tap) in uses {
                    let dy = &dy[(unit - units.start) * room..][..room];
                    self.multiply(inputs.len(), tap, tiles, [x, dy], sums);
                }
            });
        }
    }

    fn put(&self, inputs: usize, panel: Panel, sums: &[f32], lines: &mut [&mut [f32]]) {
        let [_, h, w] = self.axes;
        let (kt, width, taps) = (self.shape.kernel[0], panel.width, window([h, w]));
        with_scratch(9 * width, |window| {
            for time in 0..kt {
                for c in 0..inputs {
                    let sums = &sums[(time * TILE * inputs + c) * width..];
                    let value_stride = inputs * width;
                    WindowGradient { sums, value_stride, width, taps, window }.run();
                    for (group, lines) in lines.chunks_mut(8).enumerate() {
                        scatter(window, width, group * 8, lines, (c * kt + time) * 9);
                    }
                }
            }
        });
    }
}
