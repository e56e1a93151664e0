//! The weight gradient, a product over all output positions: `shaders/conv_weight.wgsl`.

use super::kernel::ConvKernel;
use super::params::{WeightParams, u32s};
use super::{ConvPlan, ConvShape, PartOrder, Tile, splits, sum_parts, units};
use crate::kernels::MatrixUnits;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};
use crate::kernels::storage::Storage;

/// What the columns of the product are and how its operands are loaded; the shader has the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WeightLoads {
    /// Channels at one tap.
    Tap,
    /// Like [`Self::Tap`], four positions per load: needs rows of a multiple of four and no taps
    /// along w.
    WideTap,
    /// Channels with three taps along w.
    Row,
    /// Like [`Self::Row`], four positions per load: needs rows of a multiple of four.
    WideRow,
    /// Any mix of channels and taps, for few channels.
    Mixed,
}

impl WeightLoads {
    const ALL: [Self; 5] = [Self::Tap, Self::WideTap, Self::Row, Self::WideRow, Self::Mixed];

    /// Returns the number of sums per row and column of the tile.
    pub(super) fn sums(self) -> u32 {
        if self.is_row() { 3 } else { 1 }
    }

    /// Returns the number of positions that are counted and loaded as one.
    fn group(self) -> usize {
        if self.is_wide() { 4 } else { 1 }
    }

    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::WideTap | Self::WideRow)
    }

    pub(super) fn is_row(self) -> bool {
        matches!(self, Self::Row | Self::WideRow)
    }

    /// Checks whether there is a kernel with these loads for this tile. Three taps along w take 48
    /// sums with 4×4 elements, and up to 96 in matrix registers.
    fn takes(self, tile: Tile, units: Option<MatrixUnits>) -> bool {
        if units.is_some() {
            // In every round, all invocations store, and together fill whole rows or columns of the
            // tiles.
            let loaded = if self.is_wide() { 1 } else { 4 };
            let together = tile.threads() / step(self, units) * loaded;
            let whole = [tile.rows(), tile.columns()].iter().all(|n| n.is_multiple_of(together));
            return whole && !(self.is_row() && tile.tm * tile.tn > 32);
        }
        self.is_row() == ROW_TILES.into_iter().chain(MORE_ROW_TILES).any(|row| row == tile)
    }
}

/// 32 to 64 sums per invocation. With AMD's compiler none of these tiles needs more than 128
/// registers; 64 sums in a workgroup of 64 would.
const TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
    Tile { tm: 8, tn: 4, tx: 8, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 8 },
];
/// 48 sums per invocation. Half of the networks' channel counts are multiples of 48 but not of 64.
const ROW_TILES: [Tile; 2] =
    [Tile { tm: 4, tn: 4, tx: 8, ty: 16 }, Tile { tm: 4, tn: 4, tx: 8, ty: 12 }];
/// Additional tiles for `--tune`.
const MORE_TILES: [Tile; 1] = [Tile { tm: 8, tn: 8, tx: 16, ty: 16 }];
const MORE_ROW_TILES: [Tile; 2] =
    [Tile { tm: 4, tn: 4, tx: 16, ty: 16 }, Tile { tm: 4, tn: 4, tx: 8, ty: 8 }];
/// Number of workgroups below which the positions are split.
pub(super) const WORKGROUPS: usize = 768;
/// Minimum number of positions per part. Writing and rereading a partial sum takes a GPU as long as
/// about 200 multiply-adds (8 bytes at 25 multiply-adds per byte), so fewer positions would not pay
/// off.
const MIN_PART_POSITIONS: usize = 256;
/// Up to this many channels, the columns of a tile are any mix of channels and taps.
const FEW_CHANNELS: usize = 16;

/// Returns all tiles of all kernels.
pub(super) fn tiles() -> impl Iterator<Item = Tile> {
    TILES.into_iter().chain(MORE_TILES).chain(ROW_TILES).chain(MORE_ROW_TILES)
}

/// Returns all kernels without matrix units, with x stored as `x`.
pub(super) fn kernels(x: Storage) -> impl Iterator<Item = ConvKernel> {
    tiles().flat_map(move |tile| kernels_in(tile, None, x))
}

/// Returns all kernels with this tile.
pub(super) fn kernels_in(
    tile: Tile,
    units: Option<MatrixUnits>,
    x: Storage,
) -> impl Iterator<Item = ConvKernel> {
    let loads = WeightLoads::ALL.into_iter().filter(move |loads| loads.takes(tile, units));
    loads.map(move |loads| ConvKernel::Weight { tile, loads, units, x })
}

/// Returns the number of positions per step, as the kernel counts them: eight, or sixteen for the
/// 48 sums with three taps along w, to have fewer barriers, and for matrix units, which take
/// sixteen at once.
pub(super) fn step(loads: WeightLoads, units: Option<MatrixUnits>) -> u32 {
    match loads {
        _ if units.is_some() => 16 / loads.group() as u32,
        WeightLoads::WideTap => 2,
        WeightLoads::WideRow => 4,
        WeightLoads::Row => 16,
        WeightLoads::Tap | WeightLoads::Mixed => 8,
    }
}

/// Returns the pitch of one position in the tiles of both operands, in vec4. It is rounded up so
/// that all invocations store in every round: if a store were conditional, compilers would move its
/// load into the condition, after the product. The pitch also avoids bank conflicts when storing:
/// eight neighbouring invocations store eight positions or, with wide loads, two or four rows of
/// four or two groups.
pub(super) fn pitches(tile: Tile, loads: WeightLoads) -> [u32; 2] {
    let step = step(loads, None);
    let together = tile.threads() / step;
    [tile.rows(), tile.columns()].map(|count| match loads.is_wide() {
        true => count.next_multiple_of(together) + 8 / step,
        false => (count / 4).next_multiple_of(together) | 1,
    })
}

/// Returns the most bytes of workgroup memory that a kernel with this tile needs: for both buffers
/// of the tiles and, with matrix units, for their sums; `usize::MAX` if no kernel has this tile.
pub(super) fn memory(tile: Tile, units: Option<MatrixUnits>) -> usize {
    let loads = WeightLoads::ALL.into_iter().filter(|loads| loads.takes(tile, units));
    let bytes = loads.map(|loads| {
        if units.is_some() {
            let [padding, _] = units::PADDING;
            let positions = 16 + u32::from(loads.is_row());
            return units::memory(
                tile,
                2 * positions * (tile.rows() + tile.columns() + 2 * padding),
            );
        }
        let [a, b] = pitches(tile, loads);
        2 * step(loads, None) as usize * (a + b) as usize * 16
    });
    bytes.max().unwrap_or(usize::MAX)
}

/// A convolution as the kernels see it: axes without windows are merged into rows.
struct Sizes {
    input: [usize; 3],
    output: [usize; 3],
    window: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
}

impl Sizes {
    fn of(shape: &ConvShape) -> Self {
        let &ConvShape { input, kernel: window, stride, padding, .. } = shape;
        let mut sizes = Self { input, output: shape.output(), window, stride, padding };
        if [1, 2].into_iter().all(|axis| sizes.is_plain(axis)) {
            sizes.merge(1, 2);
            if sizes.is_plain(0) {
                sizes.merge(0, 2);
            }
        }
        sizes
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
    let mut sizes = Sizes::of(shape);
    let loads = sizes.loads(shape.in_channels);
    let (rows, channels, all_taps) = (shape.out_channels, shape.in_channels, shape.taps());
    let columns = match loads {
        WeightLoads::Mixed => channels * all_taps,
        _ => channels,
    };
    let tile = variant.map(|(tile, _)| tile);
    let (tile, loads) =
        choose(loads, rows, columns, limits, tile, units).ok_or(PlanError::Device)?;
    let usual = if units.is_some() { units::WORKGROUPS } else { WORKGROUPS };
    let workgroups = variant.map_or(usual, |(_, workgroups)| workgroups);

    // With `Mixed` the window is unchanged, because the columns cover all taps.
    let mut taps = if loads == WeightLoads::Mixed { 1 } else { all_taps };
    let out_row = sizes.output[2];
    if loads.is_row() {
        taps /= 3;
        (sizes.window[2], sizes.padding[2]) = (1, 0);
    }
    let group = loads.group();
    sizes.input[2] /= group;
    sizes.output[2] /= group;
    if loads == WeightLoads::Row || loads.is_row() && units.is_some() {
        // One position, or one group of positions, separates rows.
        sizes.output[2] += 1;
    }
    let [t, h, w] = sizes.output;
    let positions = shape.batch * t * h * w;
    // With taps along w, a part consists of whole rows.
    let unit = if loads.is_row() { w } else { step(loads, units) as usize };
    let all = positions.div_ceil(unit);
    let min_units = (MIN_PART_POSITIONS / group).div_ceil(unit);
    let row_tiles = rows.div_ceil(tile.rows() as usize);
    let tiles = row_tiles * columns.div_ceil(tile.columns() as usize) * taps;
    let total = shape.weight_len();
    let parts = splits([tiles, 1], workgroups, [all, min_units], total * 4, limits);
    let part_units = all.div_ceil(parts).max(1);
    let parts = all.div_ceil(part_units).max(1);

    let mut plan = ConvPlan::new();
    let target = match parts {
        1 => Slot::Operand(2),
        _ => plan.scratch(parts * total, limits)?,
    };
    // Neighbouring invocations write neighbouring columns: parts have the channels last, and the
    // launch that adds them up restores the order.
    let (order, [column_step, tap_step]) = match (parts, loads) {
        (_, WeightLoads::Mixed) => (PartOrder::UNCHANGED, [1, 0]),
        (1, _) => (PartOrder::UNCHANGED, [all_taps, 1]),
        _ => (PartOrder { channels, taps: all_taps }, [1, channels]),
    };
    let in_plane = sizes.input.iter().product::<usize>();
    let params = WeightParams {
        in_size: u32s(sizes.input),
        in_plane: in_plane as u32,
        out_size: u32s(sizes.output),
        out_plane: (shape.output().iter().product::<usize>() / group) as u32,
        stride: u32s(sizes.stride),
        in_image: (channels * in_plane) as u32,
        padding: sizes.padding.map(|padding| padding as i32),
        positions: positions as u32,
        window: u32s(sizes.window),
        taps: taps as u32,
        out_row: (out_row / group) as u32,
        part_positions: (part_units * unit) as u32,
        rows: rows as u32,
        columns: columns as u32,
        row_tiles: row_tiles as u32,
        row_step: (channels * all_taps) as u32,
        column_step: column_step as u32,
        tap_step: tap_step as u32,
    };
    plan.launches.push(Launch::new(
        ConvKernel::Weight { tile, loads, units, x },
        fold(tiles, parts, limits)?,
        vec![Slot::Operand(0), Slot::Operand(1), target],
        &params,
    ));
    if parts > 1 {
        plan.launches.push(sum_parts(target, total, parts, order, Storage::F32, limits)?);
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use naga::AddressSpace;

    use super::*;
    use crate::kernels::plan::Shader;

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

    #[test]
    fn every_kernel_fits_into_the_computed_memory() {
        for kernel in kernels(Storage::F32).chain(units::kernels()) {
            let ConvKernel::Weight { tile, loads, units, .. } = kernel else { continue };
            let module = naga::front::wgsl::parse_str(&kernel.source()).unwrap();
            let shared = module.global_variables.iter().map(|(_, variable)| variable);
            let shared = shared.filter(|variable| variable.space == AddressSpace::WorkGroup);
            let bytes: u32 =
                shared.map(|variable| module.types[variable.ty].inner.size(module.to_ctx())).sum();
            assert!(bytes > 0 && bytes as usize <= memory(tile, units), "{kernel:?}: {bytes}");
            // A subgroup is 8 × 4 invocations.
            assert!(tile.tx.is_multiple_of(8) && tile.ty.is_multiple_of(4), "{tile:?}");
            let step = step(loads, units);
            assert!(tile.threads().is_multiple_of(step), "{kernel:?}");
            if units.is_some() {
                // In every round, all invocations together fill whole rows or columns of the tiles.
                let together = tile.threads() / step * if loads.is_wide() { 1 } else { 4 };
                assert!(tile.rows().is_multiple_of(together), "{kernel:?}");
                assert!(tile.columns().is_multiple_of(together), "{kernel:?}");
            }
        }
    }
}
