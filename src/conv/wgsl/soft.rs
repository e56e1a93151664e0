//! All three passes in registers only, for software rasterisers (Mesa's lavapipe, on which tests
//! and continuous integration run): `shaders/conv_soft_*.wgsl`. There a barrier costs more than the
//! products between two barriers, so a training step takes about a third of the time that it takes
//! with tiles in workgroup memory.
//!
//! Tiles are chosen by fixed rules. A load costs about as much as eighty multiply-add
//! instructions, whatever it loads, so tiles are as large as registers allow.

use super::kernel::{ConvKernel, SMALL_GROUP};
use super::params::{
    SoftGatherParams, SoftPackParams, SoftPackWeightsParams, SoftWeightParams, TensorRecord, u32s,
};
use super::product::Product;
use super::tile::SoftTile;
use super::{ConvPlan, ConvShape, PartOrder, sum_parts};
use crate::kernels::layout::array_words;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};
use crate::kernels::storage::Storage;

/// Subgroup sizes that there are shaders for.
pub(super) const LANES: [u32; 3] = [4, 8, 16];

/// Rows × columns per invocation in the forward pass and the input gradient: for few columns, for
/// few rows, and for everything else.
const FEW_COLUMNS: [u32; 2] = [32, 1];
const FEW_ROWS: [u32; 2] = [32, 4];
const LARGE: [u32; 2] = [64, 4];
/// Rows × channels per invocation in the weight gradient, for few and for more of each.
const WEIGHT: [[u32; 2]; 4] = [[32, 4], [32, 8], [64, 4], [64, 8]];

/// Returns the subgroup size if these kernels support the device: a software rasteriser whose
/// subgroups have one known size and can broadcast values.
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
    /// Returns the number of workgroups for `row_tiles` × `columns` invocations.
    fn groups(self, row_tiles: usize, columns: usize) -> usize {
        row_tiles * columns.div_ceil(self.lanes as usize)
    }
}

/// The positions `low` .. `low + extent` along each axis.
struct Window {
    low: [i32; 3],
    extent: [usize; 3],
}

impl Window {
    /// Returns the positions that the product's taps reach.
    fn of(product: &Product) -> Self {
        let axes = [0, 1, 2].map(|axis| {
            let reach = product.phases.iter().filter(|phase| phase.tap_count() > 0);
            let reach = reach.map(|phase| {
                let first = phase.origin[axis];
                let last = first + ((phase.lattice[axis] - 1) * product.stride[axis]) as i32;
                let tap = product.direction * (phase.taps[axis] as i32 - 1);
                (first + tap.min(0), last + tap.max(0))
            });
            // Without taps nothing is read, but a buffer must not be empty.
            reach.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0))
        });
        Self {
            low: axes.map(|(low, _)| low),
            extent: axes.map(|(low, high)| (high - low + 1) as usize),
        }
    }
}

/// Returns how an operand `[images, channels, size]` is packed with `depth` vec4 of channels, and
/// its scratch buffer.
fn packed(
    plan: &mut ConvPlan,
    [images, channels, depth]: [usize; 3],
    size: [usize; 3],
    window: &Window,
    limits: &DeviceLimits,
) -> Result<(TensorRecord, Slot), PlanError> {
    let total = images * depth * window.extent.iter().product::<usize>();
    let tensor = TensorRecord {
        size: u32s(size),
        channels: channels as u32,
        extent: u32s(window.extent),
        depth: depth as u32,
        low: window.low,
        total: total as u32,
    };
    Ok((tensor, plan.scratch(total * 4, limits)?))
}

impl TensorRecord {
    /// Returns the number of workgroups that pack the tensor.
    fn groups(&self) -> usize {
        (self.total as usize).div_ceil(SMALL_GROUP as usize)
    }
}

/// Adds the launch that packs one or two operands; the first one is stored as `first`.
fn pack_tensors(
    plan: &mut ConvPlan,
    operands: &[(usize, (TensorRecord, Slot))],
    first: Storage,
    limits: &DeviceLimits,
) -> Result<(), PlanError> {
    let mut first_group = [u32::MAX; 4];
    let mut groups = 0;
    for (first, (_, (tensor, _))) in first_group.iter_mut().zip(operands) {
        *first = groups as u32;
        groups += tensor.groups();
    }
    let buffers = operands.iter().flat_map(|&(from, (_, to))| [Slot::Operand(from), to]);
    let launch = Launch::new(
        ConvKernel::SoftPack { tensors: operands.len() as u32, first: first.as_source() },
        fold(groups, 1, limits)?,
        buffers.collect(),
        &SoftPackParams { first_group },
    );
    let tensors = array_words(operands.iter().map(|(_, (tensor, _))| *tensor));
    plan.launches.push(launch.with_tail(tensors));
    Ok(())
}

/// Adds the launch that packs a product's weights, and returns the buffer of packed weights.
fn pack_weights(
    plan: &mut ConvPlan,
    product: &Product,
    padded: usize,
    depth: usize,
    limits: &DeviceLimits,
) -> Result<Slot, PlanError> {
    let mut window: Vec<u32> = product.window().map(|tap| tap as u32).collect();
    let tap_count = window.len();
    // Without taps nothing is packed, but an array must not be empty.
    window.resize(tap_count.max(1), 0);
    let packed = plan.scratch(window.len() * depth * padded * 4, limits)?;
    let groups = [padded.div_ceil(SMALL_GROUP as usize), depth, 1];
    if groups[1] > limits.max_workgroups_per_dim as usize {
        return Err(PlanError::TooManyGroups);
    }
    let [row_stride, channel_stride] = product.weight_strides;
    let params = SoftPackWeightsParams {
        rows: product.rows as u32,
        padded_rows: padded as u32,
        channels: product.channels as u32,
        depth: depth as u32,
        row_stride: row_stride as u32,
        channel_stride: channel_stride as u32,
        tap_count: tap_count as u32,
    };
    let buffers = vec![Slot::Operand(1), packed];
    let launch = Launch::new(ConvKernel::SoftPackWeights, u32s(groups), buffers, &params);
    plan.launches.push(launch.with_tail(window));
    Ok(packed)
}

/// Returns the variants of the forward pass and the input gradient: a tile, and whether the weights
/// are read in place.
pub(super) fn gather_variants(lanes: u32) -> impl Iterator<Item = (SoftTile, bool)> {
    let variants =
        [(FEW_COLUMNS, true), (FEW_ROWS, true), (FEW_ROWS, false), (LARGE, true), (LARGE, false)];
    variants.into_iter().map(move |(size, in_place)| (tile(size, lanes), in_place))
}

/// Returns the tiles of the weight gradient.
pub(super) fn weight_tiles(lanes: u32) -> impl Iterator<Item = SoftTile> {
    WEIGHT.into_iter().map(move |size| tile(size, lanes))
}

/// Returns the default tile of the weight gradient.
fn default_weight_tile(rows: usize, channels: usize, lanes: u32) -> SoftTile {
    let tm = if rows <= 32 { 32 } else { 64 };
    let tn = if channels <= 4 { 4 } else { 8 };
    tile([tm, tn], lanes)
}

/// Returns the default variant of the forward pass and the input gradient. Packing the weights
/// costs about as much as using them for 33 columns.
fn default_gather_variant(rows: usize, columns: usize, lanes: u32) -> (SoftTile, bool) {
    let size = match (rows, columns) {
        (_, columns) if columns <= lanes as usize => FEW_COLUMNS,
        (rows, _) if rows <= FEW_ROWS[0] as usize => FEW_ROWS,
        _ => LARGE,
    };
    (tile(size, lanes), columns <= 32)
}

/// Plans the forward pass or the input gradient: pack the source, pack the weights unless they are
/// used for few columns only, multiply, and convert the result if activations are in half
/// precision.
pub(super) fn gather(
    product: &Product,
    limits: &DeviceLimits,
    lanes: u32,
    variant: Option<(SoftTile, bool)>,
    stored: Storage,
) -> Result<ConvPlan, PlanError> {
    let depth = product.channels.div_ceil(4);
    let columns = product.max_columns();
    let by_size = || default_gather_variant(product.rows, columns, lanes);
    let (tile, in_place) = variant.unwrap_or_else(by_size);
    let window = Window::of(product);
    let mut plan = ConvPlan::new();
    let sizes = [product.images, product.channels, depth];
    let source = packed(&mut plan, sizes, product.source, &window, limits)?;
    pack_tensors(&mut plan, &[(0, source)], stored, limits)?;
    let padded = product.rows.next_multiple_of(tile.tm as usize);
    let (weights, weight_step) = match in_place {
        true => {
            let [row, channel] = product.weight_strides;
            (Slot::Operand(1), [row, channel, 1])
        }
        false => {
            let packed = pack_weights(&mut plan, product, padded, depth, limits)?;
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
    let total = product.target_len();
    let target = match stored.is_half() {
        true => plan.scratch(total, limits)?,
        false => Slot::Operand(2),
    };
    let launch = Launch::new(
        ConvKernel::SoftGather { tile, in_place },
        fold(groups, product.phases.len(), limits)?,
        vec![source.1, weights, target],
        &params,
    );
    plan.launches.push(launch.with_tail(product.phase_records(window.low, in_place)));
    if stored.is_half() {
        let order = PartOrder::UNCHANGED;
        plan.launches.push(sum_parts(target, total, 1, order, stored, limits)?);
    }
    Ok(plan)
}

/// Plans the weight gradient, with x stored as `stored`.
pub(super) fn weight(
    shape: &ConvShape,
    limits: &DeviceLimits,
    lanes: u32,
    variant: Option<SoftTile>,
    stored: Storage,
) -> Result<ConvPlan, PlanError> {
    let by_size = || default_weight_tile(shape.out_channels, shape.in_channels, lanes);
    let tile = variant.unwrap_or_else(by_size);
    let (tm, tn) = (tile.tm as usize, tile.tn as usize);
    let window = Window::of(&Product::forward(shape));
    let whole = Window { low: [0; 3], extent: shape.output() };
    let x_depth = shape.in_channels.next_multiple_of(tn) / 4;
    let dy_depth = shape.out_channels.next_multiple_of(tm) / 4;
    let mut plan = ConvPlan::new();
    let sizes = [shape.batch, shape.in_channels, x_depth];
    let x = packed(&mut plan, sizes, shape.input, &window, limits)?;
    let sizes = [shape.batch, shape.out_channels, dy_depth];
    let dy = packed(&mut plan, sizes, shape.output(), &whole, limits)?;
    pack_tensors(&mut plan, &[(0, x), (1, dy)], stored, limits)?;
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
        vec![x.1, dy.1, Slot::Operand(2)],
        &params,
    ));
    Ok(plan)
}
