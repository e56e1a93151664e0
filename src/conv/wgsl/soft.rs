//! All three passes in registers alone, for software rasterisers (Mesa's lavapipe, on which tests
//! and continuous integration run): `shaders/conv_soft_*.wgsl`. There a barrier costs more than the
//! products between two of them, so that a training step takes about a third of the time that it
//! takes with tiles in workgroup memory.
//!
//! Tiles are chosen by fixed rules. A load costs about as much as eighty multiply-adds of the same
//! instruction, whatever it loads, so tiles are as large as registers allow.

use super::gather::{Product, pack};
use super::kernel::{ConvKernel, SMALL_GROUP};
use super::params::{SoftGatherParams, SoftPackParams, SoftWeightParams, u32s};
use super::tile::SoftTile;
use super::{ConvPlan, ConvShape};
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};

/// Subgroup sizes that there are shaders for.
pub(super) const LANES: [u32; 3] = [4, 8, 16];

/// Rows × columns of an invocation in forward and input gradient: few columns, few rows, all else.
const FEW_COLUMNS: [u32; 2] = [32, 1];
const FEW_ROWS: [u32; 2] = [32, 4];
const LARGE: [u32; 2] = [64, 4];
/// Rows × channels of an invocation in the weight gradient: few or more of each.
const WEIGHT: [[u32; 2]; 4] = [[32, 4], [32, 8], [64, 4], [64, 8]];

/// The subgroup size, where these kernels serve a device: a software rasteriser whose subgroups are
/// of one known size and can broadcast values.
pub(super) fn lanes(limits: &DeviceLimits) -> Option<u32> {
    let [low, high] = limits.subgroup;
    let serves = limits.software
        && limits.subgroup_operations
        && low == high
        && LANES.contains(&low)
        && low <= limits.max_invocations;
    serves.then_some(low)
}

fn tile([tm, tn]: [u32; 2], lanes: u32) -> SoftTile {
    SoftTile { tm, tn, lanes }
}

impl SoftTile {
    /// Workgroups for `row_tiles` × `columns` invocations.
    fn groups(self, row_tiles: usize, columns: usize) -> usize {
        row_tiles * columns.div_ceil(self.lanes as usize)
    }
}

/// Positions `low` … `low + extent` of each axis.
struct Window {
    low: [i32; 3],
    extent: [usize; 3],
}

impl Window {
    /// What the product's taps reach.
    fn of(product: &Product) -> Self {
        let axes = [0, 1, 2].map(|axis| {
            let reach = product.phases.iter().filter(|phase| phase.tap_count() > 0);
            let reach = reach.map(|phase| {
                let first = phase.origin[axis];
                let last = first + ((phase.lattice[axis] - 1) * product.stride[axis]) as i32;
                let tap = product.direction * (phase.taps[axis] as i32 - 1);
                (first + tap.min(0), last + tap.max(0))
            });
            // Without any tap nothing is read, but a buffer must not be empty.
            reach.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0))
        });
        Self {
            low: axes.map(|(low, _)| low),
            extent: axes.map(|(low, high)| (high - low + 1) as usize),
        }
    }
}

/// The launch that packs operand `[images, channels, size]`, and the packed buffer with `depth`
/// vec4 of channels.
fn pack_source(
    plan: &mut ConvPlan,
    operand: usize,
    [images, channels, depth]: [usize; 3],
    size: [usize; 3],
    window: &Window,
    limits: &DeviceLimits,
) -> Result<Slot, PlanError> {
    let total = images * depth * window.extent.iter().product::<usize>();
    let packed = plan.scratch(total * 4, limits)?;
    let params = SoftPackParams {
        size: u32s(size),
        channels: channels as u32,
        extent: u32s(window.extent),
        depth: depth as u32,
        low: window.low,
        total: total as u32,
    };
    let groups = fold(total.div_ceil(SMALL_GROUP as usize), 1, limits)?;
    let buffers = vec![Slot::Operand(operand), packed];
    plan.launches.push(Launch::new(ConvKernel::SoftPack, groups, buffers, &params));
    Ok(packed)
}

/// The variants of forward and input gradient: a tile, and whether the weights are read in place.
pub(super) fn gather_ways(lanes: u32) -> impl Iterator<Item = (SoftTile, bool)> {
    let ways =
        [(FEW_COLUMNS, true), (FEW_ROWS, true), (FEW_ROWS, false), (LARGE, true), (LARGE, false)];
    ways.into_iter().map(move |(size, in_place)| (tile(size, lanes), in_place))
}

/// The variants of the weight gradient.
pub(super) fn weight_tiles(lanes: u32) -> impl Iterator<Item = SoftTile> {
    WEIGHT.into_iter().map(move |size| tile(size, lanes))
}

/// The default tile of the weight gradient.
fn weight_tile(rows: usize, channels: usize, lanes: u32) -> SoftTile {
    let tm = if rows <= 32 { 32 } else { 64 };
    let tn = if channels <= 4 { 4 } else { 8 };
    tile([tm, tn], lanes)
}

/// The default variant of forward and input gradient. Packing the weights costs about as much as using them for 33 columns.
fn gather_way(rows: usize, columns: usize, lanes: u32) -> (SoftTile, bool) {
    let size = match (rows, columns) {
        (_, columns) if columns <= lanes as usize => FEW_COLUMNS,
        (rows, _) if rows <= FEW_ROWS[0] as usize => FEW_ROWS,
        _ => LARGE,
    };
    (tile(size, lanes), columns <= 32)
}

/// Forward and input gradient: pack the source, pack the weights unless each is used for few
/// columns only, multiply.
pub(super) fn gather(
    product: &Product,
    limits: &DeviceLimits,
    lanes: u32,
    variant: Option<(SoftTile, bool)>,
) -> Result<ConvPlan, PlanError> {
    let depth = product.channels.div_ceil(4);
    let columns = product.most_columns();
    let by_size = || gather_way(product.rows, columns, lanes);
    let (tile, in_place) = variant.unwrap_or_else(by_size);
    let window = Window::of(product);
    let mut plan = ConvPlan::new();
    let sizes = [product.images, product.channels, depth];
    let source = pack_source(&mut plan, 0, sizes, product.source, &window, limits)?;
    let padded = product.rows.next_multiple_of(tile.tm as usize);
    let (weights, weight_step) = match in_place {
        true => {
            let [row, channel] = product.weight_strides;
            (Slot::Operand(1), [row, channel, 1])
        }
        false => {
            let packed = pack(&mut plan, product, padded, depth, false, limits)?;
            (packed, [1, padded, depth * padded])
        }
    };
    let row_tiles = padded / tile.tm as usize;
    let params = SoftGatherParams {
        src_extent: u32s(window.extent),
        depth: depth as u32,
        dst_size: u32s(product.target),
        channels: product.channels as u32,
        stride: u32s(product.stride),
        direction: product.direction,
        dst_step: u32s(product.step),
        row_tiles: row_tiles as u32,
        weight_step: u32s(weight_step),
        rows: product.rows as u32,
    };
    let groups = tile.groups(row_tiles, columns.div_ceil(tile.tn as usize));
    let launch = Launch::new(
        ConvKernel::SoftGather { tile, in_place },
        fold(groups, product.phases.len(), limits)?,
        vec![source, weights, Slot::Operand(2)],
        &params,
    );
    plan.launches.push(launch.with_tail(product.phase_records(window.low, in_place)));
    Ok(plan)
}

/// Weight gradient.
pub(super) fn weight(
    shape: &ConvShape,
    limits: &DeviceLimits,
    lanes: u32,
    variant: Option<SoftTile>,
) -> Result<ConvPlan, PlanError> {
    let by_size = || weight_tile(shape.out_channels, shape.in_channels, lanes);
    let tile = variant.unwrap_or_else(by_size);
    let (tm, tn) = (tile.tm as usize, tile.tn as usize);
    let window = Window::of(&Product::forward(shape));
    let whole = Window { low: [0; 3], extent: shape.output() };
    let x_depth = shape.in_channels.next_multiple_of(tn) / 4;
    let dy_depth = shape.out_channels.next_multiple_of(tm) / 4;
    let mut plan = ConvPlan::new();
    let sizes = [shape.batch, shape.in_channels, x_depth];
    let x = pack_source(&mut plan, 0, sizes, shape.input, &window, limits)?;
    let sizes = [shape.batch, shape.out_channels, dy_depth];
    let dy = pack_source(&mut plan, 1, sizes, shape.output(), &whole, limits)?;
    let row_tiles = shape.out_channels.div_ceil(tm);
    let columns = shape.in_channels.div_ceil(tn) * shape.taps();
    let params = SoftWeightParams {
        out_size: u32s(shape.output()),
        images: shape.batch as u32,
        x_extent: u32s(window.extent),
        row_tiles: row_tiles as u32,
        stride: u32s(shape.stride),
        columns: columns as u32,
        window: u32s(shape.kernel),
        taps: shape.taps() as u32,
        rows: shape.out_channels as u32,
        channels: shape.in_channels as u32,
        x_depth: x_depth as u32,
        dy_depth: dy_depth as u32,
    };
    plan.launches.push(Launch::new(
        ConvKernel::SoftWeight { tile },
        fold(tile.groups(row_tiles, columns), 1, limits)?,
        vec![x, dy, Slot::Operand(2)],
        &params,
    ));
    Ok(plan)
}
