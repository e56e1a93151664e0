//! The forward pass and the input gradient, which are the same kind of product:
//! `shaders/conv_gather.wgsl`.

use super::form::{Form, Load};
use super::kernel::{ConvKernel, Epilogue};
use super::pack::{loaded, pack};
use super::params::{GatherParams, TableRow, u32s};
use super::product::{Phase, Product, row_major};
use super::tile::{Tile, Tiles};
use super::{ConvPlan, PartOrder, Parts, split, sum_parts, units};
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
    let variant = variant.or_else(|| usual_variant(&product, limits, units));
    let (tile, workgroups) = variant.ok_or(PlanError::Device)?;
    let form = Form::of(&product, table).multiplied_by(units).buffered_for(limits);
    let form = match memory(tile, form) <= limits.workgroup_memory {
        true => form,
        false => Form::plain(Load::Single).multiplied_by(units),
    };
    let cut = Cut::of(&product, tile, form);
    let mut plan = ConvPlan::new();
    let packed = pack(&mut plan, &product, (tile, form), [cut.quads, cut.depth], limits)?;
    let parts = cut.parts(&product, form, workgroups, limits);
    let total = product.target_len();
    let by_fours = product.is_one_phase() && product.target_plane().is_multiple_of(4);
    let direct = parts.count == 1 && (!stored.is_half() || by_fours);
    let target = match direct {
        true => Slot::Operand(2),
        false => plan.scratch(parts.count * total, limits)?,
    };
    let (form, result) = match direct && stored.is_half() {
        true => (form.written_wide(), stored),
        false => (form, Storage::F32),
    };
    let mut buffers = vec![Slot::Operand(0), packed, target];
    if table {
        // Two more steps are loaded but not used.
        let terms = cut.depth
            + form.terms() as usize
            + loaded(form.channels() * tile.columns(), tile.columns(), tile);
        buffers.push(plan.table(array_words(table_rows(&product, terms))));
    }
    let groups = fold(cut.tiles, parts.count * product.phases.len(), limits)?;
    // Matrix units take f16 without conversion.
    let source = if units.is_some() { Storage::F16 } else { stored.as_source() };
    let kernel = ConvKernel::Gather { tile, form, epilogue: Epilogue::Nothing, source, result };
    let launch = Launch::new(kernel, groups, buffers, &cut.params(&product, parts));
    plan.launches.push(launch.with_tail(product.phase_records([0; 3], false)));
    if !direct {
        let order = PartOrder::UNCHANGED;
        plan.launches.push(sum_parts(target, total, parts.count, order, stored, limits)?);
    }
    Ok(plan)
}

/// Returns the tile and the wanted number of workgroups for a product; `None` if the device runs no
/// kernel.
fn usual_variant(
    product: &Product,
    limits: &DeviceLimits,
    units: Option<MatrixUnits>,
) -> Option<(Tile, usize)> {
    let memory = |tile| memory(tile, Form::plain(Load::Single).multiplied_by(units));
    let size = [product.rows, product.max_columns()];
    if let Some(units) = units {
        let tile = units::choose(units, size, limits, memory, |_| true)?;
        return Some((tile, units::WORKGROUPS));
    }
    let Tiles { usual, workgroups, .. } = tiles(limits.vendor);
    let cost = |tile: Tile| tile.invocation_cost(limits.vendor);
    let [rows, columns] = size;
    Some((Tile::choose(usual, rows, columns, limits, memory, cost)?, workgroups))
}

/// A product cut into tiles of its destination and steps through its terms.
struct Cut {
    /// Number of vec4 of rows in all tiles.
    quads: usize,
    row_tiles: usize,
    tiles: usize,
    /// Channels per tap in all steps; with a table, channels and taps together.
    depth: usize,
    /// Steps through the channels.
    tap_steps: usize,
    /// Steps through channels and taps.
    steps: usize,
}

impl Cut {
    fn of(product: &Product, tile: Tile, form: Form) -> Self {
        let taps = product.phases.iter().map(Phase::tap_count).max();
        let taps = taps.expect("a valid shape has at least one phase");
        let (channels, tap_groups) = match form.load {
            Load::Table => (product.channels * taps, 1),
            load => (product.channels, taps / load.taps() as usize),
        };
        let depth = channels.next_multiple_of(form.channels() as usize);
        let tap_steps = depth / form.channels() as usize;
        let quads = product.rows.next_multiple_of(tile.rows() as usize) / 4;
        let row_tiles = 4 * quads / tile.rows() as usize;
        let tiles = row_tiles * product.max_columns().div_ceil(tile.columns() as usize);
        Self { quads, row_tiles, tiles, depth, tap_steps, steps: tap_groups * tap_steps }
    }

    /// Returns the parts that the sums are split into.
    fn parts(
        &self,
        product: &Product,
        form: Form,
        workgroups: usize,
        limits: &DeviceLimits,
    ) -> Parts {
        let min_steps = (MIN_PART_TERMS / form.terms() as usize).max(1);
        let (tiles, steps) = ([self.tiles, product.phases.len()], [self.steps, min_steps]);
        split(tiles, workgroups, steps, product.target_len() * 4, limits)
    }

    fn params(&self, product: &Product, parts: Parts) -> GatherParams {
        GatherParams {
            rows: product.rows as u32,
            quads: self.quads as u32,
            channels: product.channels as u32,
            depth: self.depth as u32,
            src_size: u32s(product.source),
            dst_plane: product.target_plane() as u32,
            dst_size: u32s(product.target),
            parts: parts.count as u32,
            part_steps: parts.steps as u32,
            dst_len: product.target_len() as u32,
            row_tiles: self.row_tiles as u32,
            one_phase: u32::from(product.is_one_phase()),
            stride: u32s(product.stride),
            src_plane: product.source.iter().product::<usize>() as u32,
            dst_step: u32s(product.step),
            tap_steps: self.tap_steps as u32,
        }
    }
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
