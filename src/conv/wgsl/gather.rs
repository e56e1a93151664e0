//! Forward and input gradient: one kind of product, `shaders/conv_gather.wgsl`.

use super::{ConvShape, Kernel, Plan, Tile, splits, sum_parts};
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};

/// 8×8 sums per invocation where the matrix is large, fewer rows where they would be padding.
/// Workgroups are small, so that several share a compute unit and one's barrier is another's turn.
pub(super) const TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 6, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
];
/// Others that a device may like better, to try: a step's loads must share out evenly among the
/// invocations.
pub(super) const MORE_TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 16 },
    Tile { tm: 8, tn: 8, tx: 8, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 8 },
    Tile { tm: 4, tn: 4, tx: 16, ty: 8 },
];
/// Workgroups below which a long sum is cut.
pub(super) const WORKGROUPS: usize = 512;
/// Channels of a step.
const STEP: usize = 8;
/// Below this many channels a step takes any mix of channels and taps.
const FLAT: usize = 5;

/// Places of the destination that see the same taps: place = `step`·q + `start` for q in `lattice`.
/// Tap j of `taps` falls on `origin` + `Product::stride`·q + `Product::direction`·j in the source.
pub(super) struct Phase {
    pub(super) lattice: [usize; 3],
    pub(super) taps: [usize; 3],
    pub(super) origin: [i32; 3],
    pub(super) start: [usize; 3],
    /// The window's index of each tap, last axis fastest.
    pub(super) window: Vec<usize>,
}

/// dst[m, place] = Σ w[m, channel, tap] · src[channel, place + tap], for each image.
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
                window: (0..taps).collect(),
            }],
            weight_strides: [shape.in_channels * taps, taps],
        }
    }

    /// Place v of `x` meets tap k of the window in output place (v + p − k) / s, where that
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
            let [(_, jt, _, ft), (_, jh, _, fh), (_, jw, _, fw)] = axes;
            let mut window = Vec::with_capacity(jt * jh * jw);
            for t in (ft..).step_by(st).take(jt) {
                for h in (fh..).step_by(sh).take(jh) {
                    let row = (t * shape.kernel[1] + h) * shape.kernel[2];
                    window.extend((fw..).step_by(sw).take(jw).map(|w| row + w));
                }
            }
            phases.push(Phase {
                lattice: axes.map(|axis| axis.0),
                taps: axes.map(|axis| axis.1),
                origin: axes.map(|axis| axis.2),
                start,
                window,
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

    /// Columns of each phase.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        self.phases.iter().map(|phase| self.images * phase.lattice.iter().product::<usize>())
    }
}

/// The launch that packs the weights for rows padded to `padded` and `depth` vec4 of channels per
/// tap, and the packed buffer. `flat` packs all taps of all channels as channels of one tap.
pub(super) fn pack(
    plan: &mut Plan,
    product: &Product,
    padded: usize,
    depth: usize,
    flat: bool,
    limits: &DeviceLimits,
) -> Result<Slot, PlanError> {
    let [row_stride, channel_stride] = product.weight_strides;
    let window: Vec<usize> = match flat {
        true => vec![0],
        false => product.phases.iter().flat_map(|phase| &phase.window).copied().collect(),
    };
    let (channels, channel_stride) = match flat {
        true => (row_stride, 1),
        false => (product.channels, channel_stride),
    };
    // A tap that no place of the destination meets (a phase left out) is in no slot.
    let packed = plan.scratch(window.len().max(1) * depth * padded * 4, limits)?;
    let sizes = [product.rows, padded, channels, depth, window.len(), row_stride, channel_stride];
    let groups = [padded.div_ceil(64), depth, 1];
    if groups[1] > limits.max_workgroups_per_dim as usize {
        return Err(PlanError::TooManyGroups);
    }
    plan.launches.push(Launch {
        kernel: Kernel::Pack,
        workgroup_size: [64, 1, 1],
        groups: groups.map(|count| count as u32),
        buffers: vec![Slot::Operand(1), packed],
        params: sizes.iter().chain(&window).map(|&value| value as u32).collect(),
    });
    Ok(packed)
}

/// Bytes of workgroup memory: both halves of the tiles, two vec4 of channels each.
pub(super) fn memory(tile: Tile) -> usize {
    (tile.rows() + tile.columns()) as usize * 64
}

/// The two or three launches of a product: pack, multiply, and add up where it was split. `way` is
/// the tile, and the workgroups wanted.
pub(super) fn plan(
    product: &Product,
    limits: &DeviceLimits,
    way: Option<(Tile, usize)>,
) -> Result<Plan, PlanError> {
    let most = product.columns().max().unwrap_or(0);
    let by_limits =
        || Tile::choose(&TILES, product.rows, most, limits, memory).map(|tile| (tile, WORKGROUPS));
    let (tile, workgroups) = way.or_else(by_limits).ok_or(PlanError::Device)?;
    let flat = product.channels < FLAT && product.direction > 0;
    let taps: usize = product.phases.iter().map(|phase| phase.window.len()).max().unwrap_or(0);
    let channels = if flat { product.channels * taps } else { product.channels };
    let depth = channels.next_multiple_of(STEP) / 4;
    let padded = product.rows.next_multiple_of(tile.rows() as usize);
    let row_tiles = padded / tile.rows() as usize;
    let tiles = row_tiles * most.div_ceil(tile.columns() as usize);

    let mut plan = Plan::new();
    let packed = pack(&mut plan, product, padded, depth, flat, limits)?;
    let steps = if flat { depth / 2 } else { taps * depth / 2 };
    let total = product.target_len();
    let parts = splits([tiles, product.phases.len()], workgroups, [steps, 16], total * 4, limits);
    let share = steps.div_ceil(parts).max(1);
    let parts = steps.div_ceil(share).max(1);
    let target = match parts {
        1 => Slot::Operand(2),
        _ => plan.scratch(parts * total, limits)?,
    };
    plan.launches.push(Launch {
        kernel: Kernel::Gather { tile, flat },
        workgroup_size: [tile.threads(), 1, 1],
        groups: fold(tiles, parts * product.phases.len(), limits)?,
        buffers: vec![Slot::Operand(0), packed, target],
        params: params(product, padded, depth, [parts, share, row_tiles], flat),
    });
    if parts > 1 {
        plan.launches.push(sum_parts(target, Slot::Operand(2), total, parts, limits)?);
    }
    Ok(plan)
}

/// The parameters in the order of the shader.
fn params(
    product: &Product,
    padded: usize,
    depth: usize,
    [parts, share, row_tiles]: [usize; 3],
    flat: bool,
) -> Vec<u32> {
    const HEADER: usize = 26;
    const PHASE: usize = 13;
    let mut words = vec![product.rows, padded, product.channels, depth];
    words.extend(product.source);
    words.push(product.target.iter().product());
    words.extend(product.target);
    words.extend([parts, share, product.target_len(), product.images, row_tiles, 0]);
    words.extend(product.stride);
    let mut words: Vec<u32> = words.into_iter().map(|word| word as u32).collect();
    words.push(product.direction.cast_unsigned());
    words.extend(product.step.map(|step| step as u32));
    words.push(u32::from(product.step == [1; 3]));
    words.push((HEADER + PHASE * product.phases.len()) as u32);
    let mut slot = 0;
    for phase in &product.phases {
        words.extend(phase.lattice.map(|size| size as u32));
        words.extend(phase.taps.map(|size| size as u32));
        words.extend(phase.origin.map(i32::cast_unsigned));
        words.extend(phase.start.map(|size| size as u32));
        words.push(slot);
        slot += phase.window.len() as u32;
    }
    if flat {
        flat_table(product, depth, &mut words);
    }
    words
}

/// Of each row of a flat product: its element relative to tap (0, 0, 0) in channel 0, and the bits
/// of its tap. Rows of padding have a bit that no place has.
fn flat_table(product: &Product, depth: usize, words: &mut Vec<u32>) {
    let [_, h, w] = product.source;
    let plane: usize = product.source.iter().product();
    let Some(phase) = product.phases.first() else { return };
    let [jt, jh, jw] = phase.taps;
    for row in 0..4 * depth {
        let (channel, tap) = (row / (jt * jh * jw), row % (jt * jh * jw));
        let (t, y, x) = (tap / (jh * jw), tap / jw % jh, tap % jw);
        let bits = (1 << t) | (1 << (jt + y)) | (1 << (jt + jh + x));
        words.push((channel * plane + (t * h + y) * w + x) as u32);
        words.push(if channel < product.channels { bits } else { 1 << 31 });
    }
}
