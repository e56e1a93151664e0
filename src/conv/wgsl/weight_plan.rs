//! The plan of the weight gradient.

use super::kernel::ConvKernel;
use super::params::{WeightParams, u32s};
use super::weight::{ROW_TILES, TILES, WORKGROUPS, WeightLoads, memory, step};
use super::{ConvPlan, ConvShape, PartOrder, Parts, Tile, split, sum_parts, units};
use crate::kernels::MatrixUnits;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};
use crate::kernels::storage::Storage;

/// Minimum number of positions per part. Writing and rereading a partial sum takes a GPU as long as
/// about 200 multiply-adds (8 bytes at 25 multiply-adds per byte), so fewer positions would not pay
/// off.
const MIN_PART_POSITIONS: usize = 256;
/// Up to this many channels, the columns of a tile are any mix of channels and taps.
const FEW_CHANNELS: usize = 16;

/// A convolution as the kernels see it: axes without windows are merged into rows.
struct Sizes {
    input: [usize; 3],
    output: [usize; 3],
    window: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    /// Positions per row of the output, without those that separate rows.
    row: usize,
}

impl Sizes {
    fn of(shape: &ConvShape) -> Self {
        let &ConvShape { input, kernel: window, stride, padding, .. } = shape;
        let output = shape.output();
        let mut sizes = Self { input, output, window, stride, padding, row: output[2] };
        if [1, 2].into_iter().all(|axis| sizes.is_plain(axis)) {
            sizes.merge(1, 2);
            if sizes.is_plain(0) {
                sizes.merge(0, 2);
            }
        }
        sizes.row = sizes.output[2];
        sizes
    }

    /// Returns the sizes as a kernel with these loads counts them, by matrix units or not.
    fn counted_by(mut self, loads: WeightLoads, by_units: bool) -> Self {
        if loads.is_row() {
            (self.window[2], self.padding[2]) = (1, 0);
        }
        let group = loads.group();
        self.input[2] /= group;
        self.row /= group;
        // One position, or one group of positions, separates rows.
        let separated = loads == WeightLoads::Row || loads.is_row() && by_units;
        self.output[2] = self.row + usize::from(separated);
        self
    }

    /// Checks whether every output position along an axis only meets the same position of the
    /// input.
    fn is_plain(&self, axis: usize) -> bool {
        (self.window[axis], self.stride[axis], self.padding[axis]) == (1, 1, 0)
    }

    fn merge(&mut self, axis: usize, into: usize) {
        for size in [&mut self.input, &mut self.output] {
            size[into] *= std::mem::replace(&mut size[axis], 1);
        }
    }

    /// Chooses how to load.
    fn loads(&self, channels: usize) -> WeightLoads {
        let taps: usize = self.window.iter().product();
        let [_, _, w] = self.input;
        match (self.window[2], self.stride[2], self.padding[2]) {
            _ if taps > 1 && channels <= FEW_CHANNELS => WeightLoads::Mixed,
            // A step is at most one row.
            (3, 1, 1) if w.is_multiple_of(4) && w >= 16 => WeightLoads::WideRow,
            (3, 1, 1) => WeightLoads::Row,
            (1, 1, 0) if w.is_multiple_of(4) => WeightLoads::WideTap,
            _ => WeightLoads::Tap,
        }
    }
}

/// Chooses the tile, unless one is given, and how to load for it; `None` if the given tile does not
/// support this shape.
fn choose(
    loads: WeightLoads,
    rows: usize,
    columns: usize,
    limits: &DeviceLimits,
    tile: Option<Tile>,
    units: Option<MatrixUnits>,
) -> Option<(Tile, WeightLoads)> {
    let Some(tile) = tile else {
        let memory = |tile| memory(tile, units);
        let cost = |tile: Tile| tile.invocation_cost(limits.vendor);
        let choose = |tiles: &[Tile]| Tile::choose(tiles, rows, columns, limits, memory, cost);
        let tile = match units {
            Some(of) => {
                let takes = |tile| loads.takes(tile, units);
                units::choose(of, [rows, columns], limits, memory, takes)
            }
            None if loads.is_row() => choose(&ROW_TILES),
            None => choose(&TILES),
        };
        return tile.map(|tile| (tile, loads));
    };
    if loads.takes(tile, units) {
        return Some((tile, loads));
    }
    // The largest tile without taps along w is also worth trying.
    let large = tile == TILES[0] || units.is_some();
    (loads.is_row() && large).then_some((tile, WeightLoads::Tap))
}

/// Plans one launch, or two if the positions are split. `variant` is the tile and the wanted number
/// of workgroups, `units` the matrix units to use, if any; x is stored as `x`.
pub(super) fn plan(
    shape: &ConvShape,
    limits: &DeviceLimits,
    variant: Option<(Tile, usize)>,
    units: Option<MatrixUnits>,
    x: Storage,
) -> Result<ConvPlan, PlanError> {
    let sizes = Sizes::of(shape);
    let loads = sizes.loads(shape.in_channels);
    let (rows, columns) = (shape.out_channels, columns(shape, loads));
    let tile = variant.map(|(tile, _)| tile);
    let (tile, loads) =
        choose(loads, rows, columns, limits, tile, units).ok_or(PlanError::Device)?;
    let usual = if units.is_some() { units::WORKGROUPS } else { WORKGROUPS };
    let workgroups = variant.map_or(usual, |(_, workgroups)| workgroups);
    let cut = Cut::of(shape, sizes.counted_by(loads, units.is_some()), (tile, loads), units);
    let parts = cut.parts(shape, workgroups, limits);

    let mut plan = ConvPlan::new();
    let total = shape.weight_len();
    let target = match parts.count {
        1 => Slot::Operand(2),
        _ => plan.scratch(parts.count * total, limits)?,
    };
    let (order, steps) = cut.order(shape, parts);
    plan.launches.push(Launch::new(
        ConvKernel::Weight { tile, loads, units, x },
        fold(cut.tiles, parts.count, limits)?,
        vec![Slot::Operand(0), Slot::Operand(1), target],
        &cut.params(shape, parts, steps),
    ));
    if parts.count > 1 {
        let sum = sum_parts(target, total, parts.count, order, Storage::F32, limits)?;
        plan.launches.push(sum);
    }
    Ok(plan)
}

/// Returns the number of columns of the product, apart from taps.
fn columns(shape: &ConvShape, loads: WeightLoads) -> usize {
    match loads {
        WeightLoads::Mixed => shape.in_channels * shape.taps(),
        _ => shape.in_channels,
    }
}

/// The product cut into tiles and into units of positions.
struct Cut {
    loads: WeightLoads,
    sizes: Sizes,
    columns: usize,
    /// Taps that are computed separately.
    taps: usize,
    row_tiles: usize,
    tiles: usize,
    /// Positions of all clips.
    positions: usize,
    /// A part has a multiple of this many positions.
    unit: usize,
}

impl Cut {
    fn of(
        shape: &ConvShape,
        sizes: Sizes,
        (tile, loads): (Tile, WeightLoads),
        units: Option<MatrixUnits>,
    ) -> Self {
        let columns = columns(shape, loads);
        let taps = match loads {
            WeightLoads::Mixed => 1,
            _ if loads.is_row() => shape.taps() / 3,
            _ => shape.taps(),
        };
        let row_tiles = shape.out_channels.div_ceil(tile.rows() as usize);
        let tiles = row_tiles * columns.div_ceil(tile.columns() as usize) * taps;
        let [t, h, w] = sizes.output;
        // With taps along w, a part consists of whole rows.
        let unit = if loads.is_row() { w } else { step(loads, units) as usize };
        let positions = shape.batch * t * h * w;
        Self { loads, sizes, columns, taps, row_tiles, tiles, positions, unit }
    }

    /// Returns the parts that the positions are split into; a step is a unit.
    fn parts(&self, shape: &ConvShape, workgroups: usize, limits: &DeviceLimits) -> Parts {
        let min_units = (MIN_PART_POSITIONS / self.loads.group()).div_ceil(self.unit);
        let units = [self.positions.div_ceil(self.unit), min_units];
        split([self.tiles, 1], workgroups, units, shape.weight_len() * 4, limits)
    }

    /// Returns the order of the parts, and the elements between columns and between taps.
    /// Neighbouring invocations write neighbouring columns: parts have the channels last, and the
    /// launch that adds them up restores the order.
    fn order(&self, shape: &ConvShape, parts: Parts) -> (PartOrder, [usize; 2]) {
        let (channels, taps) = (shape.in_channels, shape.taps());
        match (parts.count, self.loads) {
            (_, WeightLoads::Mixed) => (PartOrder::UNCHANGED, [1, 0]),
            (1, _) => (PartOrder::UNCHANGED, [taps, 1]),
            _ => (PartOrder { channels, taps }, [1, channels]),
        }
    }

    fn params(
        &self,
        shape: &ConvShape,
        parts: Parts,
        [column_step, tap_step]: [usize; 2],
    ) -> WeightParams {
        let Sizes { input, output, window, stride, padding, row } = self.sizes;
        let in_plane = input.iter().product::<usize>();
        let out_plane = shape.output().iter().product::<usize>() / self.loads.group();
        WeightParams {
            in_size: u32s(input),
            in_plane: in_plane as u32,
            out_size: u32s(output),
            out_plane: out_plane as u32,
            stride: u32s(stride),
            in_image: (shape.in_channels * in_plane) as u32,
            padding: padding.map(|padding| padding as i32),
            positions: self.positions as u32,
            window: u32s(window),
            taps: self.taps as u32,
            out_row: row as u32,
            part_positions: (parts.steps * self.unit) as u32,
            rows: shape.out_channels as u32,
            columns: self.columns as u32,
            row_tiles: self.row_tiles as u32,
            row_step: (shape.in_channels * shape.taps()) as u32,
            column_step: column_step as u32,
            tap_step: tap_step as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DeviceLimits =
        DeviceLimits { workgroup_memory: 32 << 10, ..DeviceLimits::WEBGPU };

    fn shape(kernel: [usize; 3], padding: [usize; 3], input: [usize; 3]) -> ConvShape {
        let (in_channels, out_channels) = (64, 144);
        ConvShape { batch: 2, in_channels, out_channels, input, kernel, stride: [1; 3], padding }
    }

    #[track_caller]
    fn check(shape: &ConvShape, want: WeightLoads, parts: bool) {
        let plan = plan(shape, &LIMITS, None, None, Storage::F32).unwrap();
        let ConvKernel::Weight { tile, loads, .. } = plan.launches[0].kernel else {
            panic!("{:?}", plan.launches[0].kernel)
        };
        assert_eq!(loads, want, "{shape:?} in {tile:?}");
        assert_eq!(plan.launches.len() > 1, parts, "{shape:?}");
    }

    #[test]
    fn operands_are_loaded_as_the_shape_allows() {
        check(&shape([1, 3, 3], [0, 1, 1], [4, 14, 14]), WeightLoads::Row, true);
        check(&shape([1, 3, 3], [0, 1, 1], [1, 7, 7]), WeightLoads::Row, false);
        check(&shape([1, 3, 3], [0, 1, 1], [4, 14, 16]), WeightLoads::WideRow, true);
        check(&shape([1, 3, 3], [0, 1, 1], [4, 14, 12]), WeightLoads::Row, true);
        check(&shape([3, 1, 1], [1, 0, 0], [4, 14, 14]), WeightLoads::WideTap, true);
        check(&shape([3, 1, 1], [1, 0, 0], [4, 7, 7]), WeightLoads::Tap, false);
        // A whole clip is one row.
        check(&shape([1, 1, 1], [0, 0, 0], [4, 7, 7]), WeightLoads::WideTap, false);
        check(&shape([1, 1, 1], [0, 0, 0], [3, 7, 7]), WeightLoads::Tap, false);
        let plain = shape([1, 1, 1], [0, 0, 0], [4, 16, 16]);
        check(&ConvShape { stride: [2; 3], ..plain }, WeightLoads::Tap, false);
        let stem = shape([1, 7, 7], [0, 3, 3], [4, 28, 28]);
        check(&ConvShape { in_channels: 3, ..stem }, WeightLoads::Mixed, true);
    }
}
