//! Forward and input gradient: one kind of product, `shaders/conv_gather.wgsl`.

use super::kernel::{ConvKernel, SMALL_GROUP};
use super::params::{FlatRow, GatherParams, PackParams, PhaseRecord, u32s};
use super::{ConvPlan, ConvShape, Tile, splits, sum_parts};
use crate::kernels::layout::array_words;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};

/// 8×8 sums per invocation where the matrix is large, fewer rows where they would be padding.
/// Workgroups are small, so that several share a compute unit and one computes while another waits
/// at a barrier.
pub(super) const TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 6, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
];
/// More for `--tune`: a step's loads must divide evenly among the invocations.
pub(super) const MORE_TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 16 },
    Tile { tm: 8, tn: 8, tx: 8, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 8 },
    Tile { tm: 4, tn: 4, tx: 16, ty: 8 },
];
/// Workgroups below which a long sum is split.
pub(super) const WORKGROUPS: usize = 512;
/// Channels of a step.
const STEP: usize = 8;
/// Below this many channels a step takes any mix of channels and taps.
const FLAT: usize = 5;

/// Positions of the destination that see the same taps: position = `step`·q + `start` for q in
/// `lattice`. Tap j of `taps` falls on `origin` + `Product::stride`·q + `Product::direction`·j in
/// the source, and is tap `window_first` + `window_step`·j of the window.
pub(super) struct Phase {
    pub(super) lattice: [usize; 3],
    pub(super) taps: [usize; 3],
    pub(super) origin: [i32; 3],
    pub(super) start: [usize; 3],
    window_first: usize,
    window_step: [usize; 3],
}

impl Phase {
    pub(super) fn tap_count(&self) -> usize {
        self.taps.iter().product()
    }

    /// The window's index of each tap, last axis fastest.
    fn window(&self) -> impl Iterator<Item = usize> {
        let ([t, h, w], [st, sh, sw]) = (self.taps, self.window_step);
        let taps =
            (0..t).flat_map(move |t| (0..h).flat_map(move |h| (0..w).map(move |w| [t, h, w])));
        taps.map(move |[t, h, w]| self.window_first + t * st + h * sh + w * sw)
    }
}

/// dst[m, position] = Σ w[m, channel, tap] · src[channel, position + tap], for each image.
pub(super) struct Product {
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) channels: usize,
    pub(super) source: [usize; 3],
    pub(super) target: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) direction: i32,
    /// Step of the lattices in the destination.
    pub(super) step: [usize; 3],
    pub(super) phases: Vec<Phase>,
    /// Elements of `w` between rows and between channels.
    pub(super) weight_strides: [usize; 2],
}

impl Product {
    pub(super) fn forward(shape: &ConvShape) -> Self {
        let taps = shape.taps();
        Self {
            images: shape.batch,
            rows: shape.out_channels,
            channels: shape.in_channels,
            source: shape.input,
            target: shape.output(),
            stride: shape.stride,
            direction: 1,
            step: [1; 3],
            phases: vec![Phase {
                lattice: shape.output(),
                taps: shape.kernel,
                origin: shape.padding.map(|p| -(p as i32)),
                start: [0; 3],
                window_first: 0,
                window_step: row_major(shape.kernel),
            }],
            weight_strides: [shape.in_channels * taps, taps],
        }
    }

    /// Position v of `x` meets tap k of the window in output position (v + p − k) / s, where that
    /// divides. All v with the same remainder r = (v + p) mod s meet the taps r, r + s, …
    pub(super) fn input_gradient(shape: &ConvShape) -> Self {
        let taps = shape.taps();
        let [st, sh, sw] = shape.stride;
        let mut phases = Vec::new();
        for index in 0..st * sh * sw {
            let start = [index / (sh * sw), index / sw % sh, index % sw];
            let axes = [0, 1, 2].map(|axis| {
                let (stride, padding) = (shape.stride[axis], shape.padding[axis]);
                let first = (start[axis] + padding) % stride;
                let lattice = shape.input[axis].saturating_sub(start[axis]).div_ceil(stride);
                let taps = shape.kernel[axis].saturating_sub(first).div_ceil(stride);
                (lattice, taps, ((start[axis] + padding) / stride) as i32, first)
            });
            if axes.iter().any(|axis| axis.0 == 0) {
                continue;
            }
            let tap_steps = row_major(shape.kernel);
            let first = axes.map(|axis| axis.3);
            phases.push(Phase {
                lattice: axes.map(|axis| axis.0),
                taps: axes.map(|axis| axis.1),
                origin: axes.map(|axis| axis.2),
                start,
                window_first: (0..3).map(|axis| first[axis] * tap_steps[axis]).sum(),
                window_step: std::array::from_fn(|axis| shape.stride[axis] * tap_steps[axis]),
            });
        }
        Self {
            images: shape.batch,
            rows: shape.in_channels,
            channels: shape.out_channels,
            source: shape.output(),
            target: shape.input,
            stride: [1; 3],
            direction: -1,
            step: shape.stride,
            phases,
            weight_strides: [taps, shape.in_channels * taps],
        }
    }

    /// Elements of the destination.
    pub(super) fn target_len(&self) -> usize {
        self.images * self.rows * self.target.iter().product::<usize>()
    }

    /// The window's index of each tap of all phases.
    pub(super) fn window(&self) -> impl Iterator<Item = usize> {
        self.phases.iter().flat_map(Phase::window)
    }

    /// Columns of each phase.
    fn columns(&self) -> impl Iterator<Item = usize> {
        self.phases.iter().map(|phase| self.images * phase.lattice.iter().product::<usize>())
    }

    /// Columns of the largest phase.
    pub(super) fn most_columns(&self) -> usize {
        self.columns().max().expect("every position of a sound shape is in some phase")
    }

    /// Whether one phase covers the whole destination.
    fn is_one_phase(&self) -> bool {
        self.step == [1; 3]
    }

    /// The phases as the shaders read them. The source starts at `low`, and the weights are packed
    /// or `in_place`.
    pub(super) fn phase_records(&self, low: [i32; 3], in_place: bool) -> Vec<u32> {
        let mut packed = 0;
        let plane = row_major(self.target);
        let records = self.phases.iter().zip(self.columns()).map(|(phase, columns)| {
            let tap_count = phase.tap_count();
            let (first_tap, tap_step) = match in_place {
                true => (phase.window_first, phase.window_step),
                false => (packed, row_major(phase.taps)),
            };
            packed += tap_count;
            PhaseRecord {
                lattice: u32s(phase.lattice),
                columns: columns as u32,
                taps: u32s(phase.taps),
                first_tap: first_tap as u32,
                origin: std::array::from_fn(|axis| phase.origin[axis] - low[axis]),
                dst_start: (0..3).map(|axis| phase.start[axis] * plane[axis]).sum::<usize>() as u32,
                tap_step: u32s(tap_step),
                tap_count: tap_count as u32,
            }
        });
        array_words(records)
    }
}

/// Distances of neighbours along each axis of an array of this size.
fn row_major([_, h, w]: [usize; 3]) -> [usize; 3] {
    [h * w, w, 1]
}

/// The launch that packs the weights for rows padded to `padded` and `depth` vec4 of channels per
/// tap, and the packed buffer. `flat` packs all taps of all channels as channels of one tap.
pub(super) fn pack(
    plan: &mut ConvPlan,
    product: &Product,
    padded: usize,
    depth: usize,
    flat: bool,
    limits: &DeviceLimits,
) -> Result<Slot, PlanError> {
    let [row_stride, channel_stride] = product.weight_strides;
    let window: Vec<usize> = match flat {
        true => vec![0],
        false => product.window().collect(),
    };
    let (channels, channel_stride) = match flat {
        true => (row_stride, 1),
        false => (product.channels, channel_stride),
    };
    // Taps that no position of the destination meets are in no phase, and are not packed.
    let packed = plan.scratch(window.len().max(1) * depth * padded * 4, limits)?;
    if window.is_empty() {
        return Ok(packed);
    }
    let groups = [padded.div_ceil(SMALL_GROUP as usize), depth, 1];
    if groups[1] > limits.max_workgroups_per_dim as usize {
        return Err(PlanError::TooManyGroups);
    }
    let params = PackParams {
        rows: product.rows as u32,
        padded_rows: padded as u32,
        channels: channels as u32,
        depth: depth as u32,
        row_stride: row_stride as u32,
        channel_stride: channel_stride as u32,
        tap_count: window.len() as u32,
    };
    let buffers = vec![Slot::Operand(1), packed];
    let launch = Launch::new(ConvKernel::Pack, u32s(groups), buffers, &params);
    plan.launches.push(launch.with_tail(window.into_iter().map(|tap| tap as u32)));
    Ok(packed)
}

/// Bytes of workgroup memory: both buffers of the tiles, two vec4 of channels each.
pub(super) fn memory(tile: Tile) -> usize {
    (tile.rows() + tile.columns()) as usize * 64
}

/// The two or three launches of a product: pack, multiply, and add up where it was split. `variant`
/// is the tile, and the workgroups wanted.
pub(super) fn plan(
    product: &Product,
    limits: &DeviceLimits,
    variant: Option<(Tile, usize)>,
) -> Result<ConvPlan, PlanError> {
    let most = product.most_columns();
    let by_limits =
        || Tile::choose(&TILES, product.rows, most, limits, memory).map(|tile| (tile, WORKGROUPS));
    let (tile, workgroups) = variant.or_else(by_limits).ok_or(PlanError::Device)?;
    let flat = product.channels < FLAT && product.direction > 0;
    let taps = product.phases.iter().map(Phase::tap_count).max();
    let taps = taps.expect("every position of a sound shape is in some phase");
    let channels = if flat { product.channels * taps } else { product.channels };
    let depth = channels.next_multiple_of(STEP) / 4;
    let padded = product.rows.next_multiple_of(tile.rows() as usize);
    let row_tiles = padded / tile.rows() as usize;
    let tiles = row_tiles * most.div_ceil(tile.columns() as usize);

    let mut plan = ConvPlan::new();
    let packed = pack(&mut plan, product, padded, depth, flat, limits)?;
    let steps = if flat { depth / 2 } else { taps * depth / 2 };
    let total = product.target_len();
    let parts = splits([tiles, product.phases.len()], workgroups, [steps, 16], total * 4, limits);
    let part_steps = steps.div_ceil(parts).max(1);
    let parts = steps.div_ceil(part_steps).max(1);
    let target = match parts {
        1 => Slot::Operand(2),
        _ => plan.scratch(parts * total, limits)?,
    };
    let mut buffers = vec![Slot::Operand(0), packed, target];
    if flat {
        buffers.push(plan.table(array_words(flat_rows(product, depth))));
    }
    let params = GatherParams {
        rows: product.rows as u32,
        padded_rows: padded as u32,
        channels: product.channels as u32,
        depth: depth as u32,
        src_size: u32s(product.source),
        dst_plane: product.target.iter().product::<usize>() as u32,
        dst_size: u32s(product.target),
        parts: parts as u32,
        part_steps: part_steps as u32,
        dst_len: total as u32,
        row_tiles: row_tiles as u32,
        one_phase: u32::from(product.is_one_phase()),
        stride: u32s(product.stride),
        direction: product.direction,
        dst_step: u32s(product.step),
        src_plane: product.source.iter().product::<usize>() as u32,
    };
    let groups = fold(tiles, parts * product.phases.len(), limits)?;
    let launch =
        Launch::new(ConvKernel::Gather { tile, flat, moments: false }, groups, buffers, &params);
    plan.launches.push(launch.with_tail(product.phase_records([0; 3], false)));
    if parts > 1 {
        plan.launches.push(sum_parts(target, Slot::Operand(2), total, parts, limits)?);
    }
    Ok(plan)
}

/// The rows of a flat product, which has one phase.
fn flat_rows(product: &Product, depth: usize) -> impl Iterator<Item = FlatRow> {
    let [plane_step, row_step, _] = row_major(product.source);
    let plane = product.source.iter().product::<usize>();
    let [jt, jh, jw] = product.phases[0].taps;
    let channels = product.channels;
    (0..4 * depth).map(move |row| {
        let (channel, tap) = (row / (jt * jh * jw), row % (jt * jh * jw));
        let (t, y, x) = (tap / (jh * jw), tap / jw % jh, tap % jw);
        let bits = (1 << t) | (1 << (jt + y)) | (1 << (jt + jh + x));
        FlatRow {
            offset: (channel * plane + t * plane_step + y * row_step + x) as u32,
            // Rows of padding have a bit that no position has.
            tap_bits: if channel < channels { bits } else { 1 << 31 },
        }
    })
}
