//! The forward pass and the input gradient, which are the same kind of product:
//! `shaders/conv_gather.wgsl`.

use super::form::{Form, Load};
use super::kernel::{ConvKernel, Epilogue};
use super::pack::{loaded, pack};
use super::params::{GatherParams, PhaseRecord, TableRow, u32s};
use super::tile::{Tile, Tiles};
use super::{ConvPlan, ConvShape, PartOrder, splits, sum_parts, units};
use crate::device::Vendor;
use crate::kernels::MatrixUnits;
use crate::kernels::layout::array_words;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};
use crate::kernels::storage::Storage;

/// 64 sums per invocation, or 48 where rows would be padding, so that the values read from
/// workgroup memory are each used in several products. 128 invocations, so that several workgroups
/// share a compute unit and one computes while another waits at a barrier.
const MANY_REGISTERS: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 12, tn: 4, tx: 32, ty: 4 },
    Tile { tm: 4, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
];
/// At most 32 sums per invocation, for devices on which 64 would spill.
const FEW_REGISTERS: [Tile; 3] = [
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
    Tile { tm: 4, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 4, tx: 16, ty: 8 },
];
/// Additional tiles for `--tune`: larger and smaller workgroups with similar tiles per invocation.
const MORE_LARGE: [Tile; 2] =
    [Tile { tm: 8, tn: 8, tx: 16, ty: 16 }, Tile { tm: 8, tn: 8, tx: 8, ty: 8 }];
const MORE_SMALL: [Tile; 2] =
    [Tile { tm: 8, tn: 4, tx: 16, ty: 8 }, Tile { tm: 8, tn: 8, tx: 8, ty: 8 }];

/// Returns the tiles for a vendor's devices. NVIDIA, AMD and Apple GPUs still have several
/// subgroups in flight if an invocation takes 128 registers; Apple GPUs have fewer cores to fill.
/// Intel GPUs have 128 registers of 32 bytes for a whole subgroup, and phone GPUs have no more.
pub(super) fn tiles(vendor: Vendor) -> Tiles {
    match vendor {
        Vendor::Nvidia | Vendor::Amd => {
            Tiles { usual: &MANY_REGISTERS, more: &MORE_LARGE, workgroups: 512 }
        }
        Vendor::Apple => Tiles { usual: &MANY_REGISTERS, more: &MORE_SMALL, workgroups: 256 },
        Vendor::Intel | Vendor::Unknown => {
            Tiles { usual: &FEW_REGISTERS, more: &MORE_SMALL, workgroups: 256 }
        }
    }
}

/// Minimum number of terms per part of a split sum.
const MIN_PART_TERMS: usize = 128;
/// Below this many channels, the source is read through a table, with any mix of channels and taps
/// in a step.
const FEW_CHANNELS: usize = 5;

/// Positions of the destination that use the same taps: position = `Product::step`·q + `start` for
/// q in `lattice`. Tap j of `taps` falls on `origin` + `Product::stride`·q + `Product::direction`·j
/// in the source, and is tap `window_first` + `window_step`·j of the window.
pub(super) struct Phase {
    pub(super) lattice: [usize; 3],
    pub(super) taps: [usize; 3],
    pub(super) origin: [i32; 3],
    pub(super) start: [usize; 3],
    window_first: usize,
    window_step: [isize; 3],
}

impl Phase {
    pub(super) fn tap_count(&self) -> usize {
        self.taps.iter().product()
    }

    /// Returns the index of each tap in the window, last axis fastest.
    fn window(&self) -> impl Iterator<Item = usize> {
        let [t, h, w] = self.taps;
        let taps =
            (0..t).flat_map(move |t| (0..h).flat_map(move |h| (0..w).map(move |w| [t, h, w])));
        let step = |tap: [usize; 3], axis: usize| tap[axis] as isize * self.window_step[axis];
        taps.map(move |tap| {
            let steps = (0..3).map(|axis| step(tap, axis)).sum();
            self.window_first.checked_add_signed(steps).expect("a tap is within the window")
        })
    }

    /// Returns the phase with its taps counted from the other end.
    fn reversed(self) -> Self {
        let last = |axis: usize| self.taps[axis].saturating_sub(1);
        let to_last = (0..3).map(|axis| last(axis) as isize * self.window_step[axis]).sum();
        Self {
            origin: std::array::from_fn(|axis| self.origin[axis] - last(axis) as i32),
            window_first: (self.window_first.checked_add_signed(to_last))
                .expect("the last tap is within the window"),
            window_step: self.window_step.map(|step| -step),
            ..self
        }
    }
}

/// A product dst[m, position] = Σ w[m, channel, tap] · src[channel, position + tap], for each
/// image.
pub(super) struct Product {
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) channels: usize,
    pub(super) source: [usize; 3],
    pub(super) target: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) direction: i32,
    /// Distance between neighbouring lattice positions in the destination.
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
                window_step: row_major(shape.kernel).map(|step| step as isize),
            }],
            weight_strides: [shape.in_channels * taps, taps],
        }
    }

    /// Position v of `x` meets tap k of the window at output position (v + p − k) / s, if s divides
    /// v + p − k. All v with the same remainder r = (v + p) mod s meet the taps r, r + s, …
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
                window_step: std::array::from_fn(|axis| {
                    (shape.stride[axis] * tap_steps[axis]) as isize
                }),
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

    /// Returns the same product with taps that ascend in the source.
    fn ascending(mut self) -> Self {
        if self.direction < 0 {
            self.direction = 1;
            self.phases = self.phases.into_iter().map(Phase::reversed).collect();
        }
        self
    }

    /// Returns the number of elements of the destination.
    pub(super) fn target_len(&self) -> usize {
        self.images * self.rows * self.target.iter().product::<usize>()
    }

    /// Returns the index in the window of each tap of all phases.
    pub(super) fn window(&self) -> impl Iterator<Item = usize> {
        self.phases.iter().flat_map(Phase::window)
    }

    /// Returns the number of columns of each phase.
    fn columns(&self) -> impl Iterator<Item = usize> {
        self.phases.iter().map(|phase| self.images * phase.lattice.iter().product::<usize>())
    }

    /// Returns the number of columns of the largest phase.
    pub(super) fn max_columns(&self) -> usize {
        self.columns().max().expect("a valid shape has at least one phase")
    }

    /// Checks whether one phase covers the whole destination.
    fn is_one_phase(&self) -> bool {
        self.step == [1; 3]
    }

    /// Returns the phases as the shaders read them, for a source that starts at `low` and weights
    /// that are packed or read `in_place`.
    pub(super) fn phase_records(&self, low: [i32; 3], in_place: bool) -> Vec<u32> {
        let mut packed = 0;
        let plane = row_major(self.target);
        let records = self.phases.iter().zip(self.columns()).map(|(phase, columns)| {
            let tap_count = phase.tap_count();
            let (first_tap, tap_step) = match in_place {
                true => (phase.window_first, phase.window_step.map(isize::unsigned_abs)),
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

/// Returns the row-major strides of an array of this size.
fn row_major([_, h, w]: [usize; 3]) -> [usize; 3] {
    [h * w, w, 1]
}

/// Returns the bytes of workgroup memory for the buffers of the tiles and, with matrix units, for
/// their sums.
pub(super) fn memory(tile: Tile, form: Form) -> usize {
    match form.units {
        Some(_) => {
            let ([padding, _], terms) = (units::PADDING, form.terms());
            let [a, b] = [tile.rows() * (terms + padding), terms * (tile.columns() + padding)];
            units::memory(tile, form.buffers * (a + b))
        }
        None => ((tile.rows() + tile.columns()) * form.terms() * form.buffers) as usize * 4,
    }
}

/// Plans the two or three launches of a product: pack the weights, multiply, and add up the parts
/// if the sums are split. `variant` is the tile and the wanted number of workgroups, `units` the
/// matrix units to use, if any; source and result are stored as `stored`. Results in half precision
/// are written four values at a time; if planes are not a multiple of four values or columns are
/// not adjacent, the third launch converts the result.
pub(super) fn plan(
    product: Product,
    limits: &DeviceLimits,
    variant: Option<(Tile, usize)>,
    units: Option<MatrixUnits>,
    stored: Storage,
) -> Result<ConvPlan, PlanError> {
    let table = product.channels < FEW_CHANNELS && product.direction > 0;
    let product = product.ascending();
    let max_columns = product.max_columns();
    let (tile, workgroups) = match variant {
        Some(variant) => variant,
        None => {
            let memory = |tile| memory(tile, Form::plain(Load::Single).multiplied_by(units));
            let (tile, workgroups) = match units {
                Some(units) => {
                    let size = [product.rows, max_columns];
                    let tile = units::choose(units, size, limits, memory, |_| true);
                    (tile, units::WORKGROUPS)
                }
                None => {
                    let Tiles { usual, workgroups, .. } = tiles(limits.vendor);
                    let cost = |tile: Tile| tile.invocation_cost(limits.vendor);
                    let tile = Tile::choose(usual, product.rows, max_columns, limits, memory, cost);
                    (tile, workgroups)
                }
            };
            (tile.ok_or(PlanError::Device)?, workgroups)
        }
    };
    let form = Form::of(&product, table).multiplied_by(units).buffered_for(limits);
    let form = match memory(tile, form) <= limits.workgroup_memory {
        true => form,
        false => Form::plain(Load::Single).multiplied_by(units),
    };
    let load = form.load;
    let taps = product.phases.iter().map(Phase::tap_count).max();
    let taps = taps.expect("a valid shape has at least one phase");
    let channels = if table { product.channels * taps } else { product.channels };
    let depth = channels.next_multiple_of(form.channels() as usize);
    let tap_steps = depth / form.channels() as usize;
    let quads = product.rows.next_multiple_of(tile.rows() as usize) / 4;
    let row_tiles = 4 * quads / tile.rows() as usize;
    let tiles = row_tiles * max_columns.div_ceil(tile.columns() as usize);

    let mut plan = ConvPlan::new();
    let packed = pack(&mut plan, &product, (tile, form), [quads, depth], limits)?;
    let steps = if table { tap_steps } else { taps / load.taps() as usize * tap_steps };
    let total = product.target_len();
    let min_steps = (MIN_PART_TERMS / form.terms() as usize).max(1);
    let parts =
        splits([tiles, product.phases.len()], workgroups, [steps, min_steps], total * 4, limits);
    let part_steps = steps.div_ceil(parts).max(1);
    let parts = steps.div_ceil(part_steps).max(1);
    let dst_plane = product.target.iter().product::<usize>();
    let by_fours = product.is_one_phase() && dst_plane.is_multiple_of(4);
    let direct = parts == 1 && (!stored.is_half() || by_fours);
    let target = match direct {
        true => Slot::Operand(2),
        false => plan.scratch(parts * total, limits)?,
    };
    let (form, result) = match direct && stored.is_half() {
        true => (form.written_wide(), stored),
        false => (form, Storage::F32),
    };
    let mut buffers = vec![Slot::Operand(0), packed, target];
    if table {
        // Two more steps are loaded but not used.
        let terms = depth
            + form.terms() as usize
            + loaded(form.channels() * tile.columns(), tile.columns(), tile);
        buffers.push(plan.table(array_words(table_rows(&product, terms))));
    }
    let params = GatherParams {
        rows: product.rows as u32,
        quads: quads as u32,
        channels: product.channels as u32,
        depth: depth as u32,
        src_size: u32s(product.source),
        dst_plane: dst_plane as u32,
        dst_size: u32s(product.target),
        parts: parts as u32,
        part_steps: part_steps as u32,
        dst_len: total as u32,
        row_tiles: row_tiles as u32,
        one_phase: u32::from(product.is_one_phase()),
        stride: u32s(product.stride),
        src_plane: product.source.iter().product::<usize>() as u32,
        dst_step: u32s(product.step),
        tap_steps: tap_steps as u32,
    };
    let groups = fold(tiles, parts * product.phases.len(), limits)?;
    // Matrix units take f16 without conversion.
    let source = if units.is_some() { Storage::F16 } else { stored.as_source() };
    let kernel = ConvKernel::Gather { tile, form, epilogue: Epilogue::Nothing, source, result };
    let launch = Launch::new(kernel, groups, buffers, &params);
    plan.launches.push(launch.with_tail(product.phase_records([0; 3], false)));
    if !direct {
        let order = PartOrder::UNCHANGED;
        plan.launches.push(sum_parts(target, total, parts, order, stored, limits)?);
    }
    Ok(plan)
}

/// Returns the table of a product with few channels, which has one phase, for this many terms.
fn table_rows(product: &Product, terms: usize) -> impl Iterator<Item = TableRow> {
    let [plane_step, row_step, _] = row_major(product.source);
    let plane = product.source.iter().product::<usize>();
    let [jt, jh, jw] = product.phases[0].taps;
    let channels = product.channels;
    (0..terms).map(move |row| {
        let (channel, tap) = (row / (jt * jh * jw), row % (jt * jh * jw));
        let (t, y, x) = (tap / (jh * jw), tap / jw % jh, tap % jw);
        let bits = (1 << t) | (1 << (jt + y)) | (1 << (jt + jh + x));
        TableRow {
            offset: (channel * plane + t * plane_step + y * row_step + x) as u32,
            // Padding rows have a bit that no position's mask has.
            tap_bits: if channel < channels { bits } else { 1 << 31 },
        }
    })
}
