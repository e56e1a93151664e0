//! All three passes in registers alone, for software rasterisers: `shaders/conv_soft_*.wgsl`.
//!
//! Times are in cycles of one core with eight invocations to an instruction, as measured on Mesa's
//! lavapipe; only their proportions matter here.

use super::gather::{Product, pack};
use super::tile::SoftTile;
use super::{ConvShape, Kernel, Plan};
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};

/// A load of a vec4 or of one value, a multiply-add, a value passed round.
const LOAD: f64 = 130.0;
const LOAD_ONE: f64 = 60.0;
const MULTIPLY: f64 = 1.5;
const PASS: f64 = 1.0;
/// Packing one vec4 of weights.
const PACK: f64 = 6.0 * LOAD_ONE + LOAD;
/// Invocations of an instruction.
const WIDTH: usize = 8;
/// Invocations of a workgroup: few, for there may be few in all.
const THREADS: u32 = 16;
/// Rows × columns of an invocation, alone and as one of a subgroup that shares its rows.
const ALONE: [[u32; 2]; 3] = [[16, 16], [16, 8], [16, 4]];
const SHARED: [[u32; 2]; 6] = [[64, 4], [64, 2], [64, 1], [32, 4], [32, 2], [32, 1]];
/// From this many columns of an invocation on, packed weights are an alternative.
const PACKED_COLUMNS: u32 = 4;
const WEIGHT_ALONE: [[u32; 2]; 3] = [[16, 16], [16, 8], [16, 4]];
const WEIGHT_SHARED: [[u32; 2]; 4] = [[64, 8], [32, 8], [64, 4], [32, 4]];

/// Invocations of a subgroup if they can pass values round, else 0.
pub(super) fn lanes(limits: &DeviceLimits) -> u32 {
    let [low, high] = limits.subgroup;
    let known = low == high && [4, 8, 16].contains(&low) && low <= limits.max_invocations;
    if limits.subgroup_operations && known { low } else { 0 }
}

/// Tiles of forward and input gradient; `lanes` is 0 where each invocation is alone.
fn gather_tiles(lanes: u32) -> impl Iterator<Item = SoftTile> {
    tiles(if lanes > 0 { &SHARED } else { &ALONE }, lanes)
}

/// Tiles of the weight gradient.
pub(super) fn weight_tiles(lanes: u32) -> impl Iterator<Item = SoftTile> {
    tiles(if lanes > 0 { &WEIGHT_SHARED } else { &WEIGHT_ALONE }, lanes)
}

fn tiles(sizes: &'static [[u32; 2]], lanes: u32) -> impl Iterator<Item = SoftTile> {
    let threads = if lanes > 0 { lanes } else { THREADS };
    sizes.iter().map(move |&[tm, tn]| SoftTile { tm, tn, threads, lanes })
}

/// The cheapest of some candidates.
fn cheapest<T>(candidates: impl Iterator<Item = (f64, T)>) -> Result<T, PlanError> {
    candidates
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
        .ok_or(PlanError::Device)
}

impl SoftTile {
    /// Workgroups for `row_tiles` × `columns` invocations.
    fn groups(self, row_tiles: usize, columns: usize) -> usize {
        let threads = self.threads as usize;
        match self.lanes {
            0 => (row_tiles * columns).div_ceil(threads),
            _ => row_tiles * columns.div_ceil(threads),
        }
    }

    /// Instructions' worth of invocations.
    fn instructions(self, row_tiles: usize, columns: usize) -> f64 {
        (self.groups(row_tiles, columns) * self.threads as usize).div_ceil(WIDTH) as f64
    }

    /// Loads that one step spreads over the subgroup for `count` values that it shares.
    fn share(self, count: u32) -> f64 {
        f64::from(count.div_ceil(self.lanes.max(1)))
    }
}

/// Places `low` … `low + extent` of each axis.
struct Window {
    low: [i32; 3],
    extent: [usize; 3],
}

impl Window {
    /// What the product's taps reach.
    fn of(product: &Product) -> Self {
        let axes = [0, 1, 2].map(|axis| {
            let reach = product.phases.iter().filter(|phase| !phase.window.is_empty());
            let reach = reach.map(|phase| {
                let first = phase.origin[axis];
                let last = first + ((phase.lattice[axis] - 1) * product.stride[axis]) as i32;
                let tap = product.direction * (phase.taps[axis] as i32 - 1);
                (first + tap.min(0), last + tap.max(0))
            });
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
fn pack_places(
    plan: &mut Plan,
    operand: usize,
    [images, channels, depth]: [usize; 3],
    size: [usize; 3],
    window: &Window,
    limits: &DeviceLimits,
) -> Result<Slot, PlanError> {
    let total = images * depth * window.extent.iter().product::<usize>();
    let packed = plan.scratch(total * 4, limits)?;
    let sizes = [total, channels, depth].into_iter().chain(size).chain(window.extent);
    plan.launches.push(Launch {
        kernel: Kernel::SoftPack,
        workgroup_size: [64, 1, 1],
        groups: fold(total.div_ceil(64), 1, limits)?,
        buffers: vec![Slot::Operand(operand), packed],
        params: sizes.map(|value| value as u32).chain(window.low.map(i32::cast_unsigned)).collect(),
    });
    Ok(packed)
}

/// The ways of forward and input gradient: a tile, and whether the weights are read where they are.
/// With few columns packing never pays, and the variant need not exist.
pub(super) fn gather_ways(lanes: u32) -> impl Iterator<Item = (SoftTile, bool)> {
    gather_tiles(lanes)
        .flat_map(|tile| [(tile, false), (tile, true)])
        .filter(|(tile, in_place)| *in_place || tile.tn >= PACKED_COLUMNS)
}

/// Forward and input gradient: pack the source, pack the weights unless each is used but once or
/// twice, multiply.
pub(super) fn gather(
    product: &Product,
    limits: &DeviceLimits,
    way: Option<(SoftTile, bool)>,
) -> Result<Plan, PlanError> {
    let depth = product.channels.div_ceil(4);
    // What a tile costs, with the weights packed or read where they are.
    let cost = |tile: SoftTile, in_place: bool| {
        let SoftTile { tm, tn, .. } = tile;
        let row_tiles = product.rows.div_ceil(tm as usize);
        let weight = if in_place { 4.0 * LOAD_ONE } else { LOAD };
        let passed = if tile.lanes > 0 { f64::from(4 * tm) * PASS } else { 0.0 };
        let step = tile.share(tm) * weight
            + f64::from(tn) * LOAD
            + f64::from(4 * tm * tn) * MULTIPLY
            + passed;
        let phases = product.phases.iter().zip(product.columns());
        let multiply: f64 = phases
            .map(|(phase, columns)| {
                let tiles = tile.instructions(row_tiles, columns.div_ceil(tn as usize));
                tiles * (phase.window.len() * depth) as f64 * step
            })
            .sum();
        let taps: usize = product.phases.iter().map(|phase| phase.window.len()).sum();
        let packing = (taps * depth * row_tiles * tm as usize) as f64 / WIDTH as f64 * PACK;
        multiply + if in_place { 0.0 } else { packing }
    };
    let by_cost = || {
        cheapest(
            gather_ways(lanes(limits)).map(|way @ (tile, in_place)| (cost(tile, in_place), way)),
        )
    };
    let (tile, in_place) = way.map_or_else(by_cost, Ok)?;

    let window = Window::of(product);
    let mut plan = Plan::new();
    let sizes = [product.images, product.channels, depth];
    let source = pack_places(&mut plan, 0, sizes, product.source, &window, limits)?;
    let padded = product.rows.next_multiple_of(tile.tm as usize);
    let weights = match in_place {
        true => Slot::Operand(1),
        false => pack(&mut plan, product, padded, depth, false, limits)?,
    };
    let row_tiles = padded / tile.tm as usize;
    let most = product.columns().max().unwrap_or(0).div_ceil(tile.tn as usize);
    plan.launches.push(Launch {
        kernel: Kernel::SoftGather { tile, in_place },
        workgroup_size: [tile.threads, 1, 1],
        groups: fold(tile.groups(row_tiles, most), product.phases.len(), limits)?,
        buffers: vec![source, weights, Slot::Operand(2)],
        params: params(product, &window, padded, in_place, row_tiles),
    });
    Ok(plan)
}

/// The parameters in the order of the shader.
fn params(
    product: &Product,
    window: &Window,
    padded: usize,
    in_place: bool,
    row_tiles: usize,
) -> Vec<u32> {
    const HEADER: usize = 26;
    const PHASE: usize = 13;
    let depth = product.channels.div_ceil(4);
    let [row_step, channel_step, tap_step] = match in_place {
        true => [product.weight_strides[0], product.weight_strides[1], 1],
        false => [1, padded, depth * padded],
    };
    let mut words = vec![product.rows, row_step, channel_step, depth];
    words.extend(window.extent);
    words.push(product.target.iter().product());
    words.extend(product.target);
    words.extend([product.channels, 0, 0, product.images, row_tiles, 0]);
    words.extend(product.stride);
    let mut words: Vec<u32> = words.into_iter().map(|word| word as u32).collect();
    words.push(product.direction.cast_unsigned());
    words.extend(product.step.map(|step| step as u32));
    words.push((HEADER + PHASE * product.phases.len()) as u32);
    words.push(tap_step as u32);
    let mut slot = 0;
    for phase in &product.phases {
        words.extend(phase.lattice.map(|size| size as u32));
        words.extend(phase.taps.map(|size| size as u32));
        let origin = [0, 1, 2].map(|axis| phase.origin[axis] - window.low[axis]);
        words.extend(origin.map(i32::cast_unsigned));
        words.extend(phase.start.map(|size| size as u32));
        words.push(slot);
        slot += phase.window.len() as u32;
    }
    // Where each tap's weights are: packed in this order, or by the window's index.
    let taps = product.phases.iter().flat_map(|phase| &phase.window);
    match in_place {
        true => words.extend(taps.map(|&tap| tap as u32)),
        false => words.extend(0..slot),
    }
    words
}

/// Weight gradient.
pub(super) fn weight(
    shape: &ConvShape,
    limits: &DeviceLimits,
    tile: Option<SoftTile>,
) -> Result<Plan, PlanError> {
    let columns = |tn: u32| shape.in_channels.div_ceil(tn as usize) * shape.taps();
    let cost = |tile: SoftTile| {
        let SoftTile { tm, tn, .. } = tile;
        let passed = if tile.lanes > 0 { f64::from(tm) * PASS } else { 0.0 };
        let step = (tile.share(tm / 4) + f64::from(tn / 4)) * LOAD
            + f64::from(tm * tn) * MULTIPLY
            + passed;
        tile.instructions(shape.out_channels.div_ceil(tm as usize), columns(tn)) * step
    };
    let by_cost = || cheapest(weight_tiles(lanes(limits)).map(|tile| (cost(tile), tile)));
    let tile = tile.map_or_else(by_cost, Ok)?;
    let (tm, tn) = (tile.tm as usize, tile.tn as usize);
    let window = Window::of(&Product::forward(shape));
    let whole = Window { low: [0; 3], extent: shape.output() };
    let x_depth = shape.in_channels.next_multiple_of(tn) / 4;
    let dy_depth = shape.out_channels.next_multiple_of(tm) / 4;
    let mut plan = Plan::new();
    let sizes = [shape.batch, shape.in_channels, x_depth];
    let x = pack_places(&mut plan, 0, sizes, shape.input, &window, limits)?;
    let sizes = [shape.batch, shape.out_channels, dy_depth];
    let dy = pack_places(&mut plan, 1, sizes, shape.output(), &whole, limits)?;
    let row_tiles = shape.out_channels.div_ceil(tm);
    let columns = columns(tile.tn);
    let mut params = vec![shape.out_channels, shape.in_channels, shape.batch];
    params.extend(shape.output());
    params.extend(window.extent);
    params.extend(shape.stride);
    params.extend(shape.kernel);
    params.extend([row_tiles, columns, x_depth, dy_depth]);
    plan.launches.push(Launch {
        kernel: Kernel::SoftWeight { tile },
        workgroup_size: [tile.threads, 1, 1],
        groups: fold(tile.groups(row_tiles, columns), 1, limits)?,
        buffers: vec![x, dy, Slot::Operand(2)],
        params: params.into_iter().map(|word| word as u32).collect(),
    });
    Ok(plan)
}
