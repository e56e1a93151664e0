//! Packs the weights in the order in which the products in tiles read them:
//! `shaders/conv_pack.wgsl`.

use super::ConvPlan;
use super::form::{Form, Load};
use super::kernel::{ConvKernel, SMALL_GROUP};
use super::params::PackParams;
use super::product::Product;
use super::tile::Tile;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};
use crate::kernels::storage::Storage;

/// Adds the launch that packs the weights, for `quads` vec4 of rows and `depth` channels per tap,
/// and returns the packed buffer. The terms of a step are ordered by tap for matrix units, else by
/// channel. With a table, all taps of all channels count as the channels of one tap.
pub(super) fn pack(
    plan: &mut ConvPlan,
    product: &Product,
    (tile, form): (Tile, Form),
    [quads, depth]: [usize; 2],
    limits: &DeviceLimits,
) -> Result<Slot, PlanError> {
    let [row_stride, channel_stride] = product.weight_strides;
    let load = form.load;
    let window: Vec<usize> = match load {
        Load::Table => vec![0],
        _ => product.window().collect(),
    };
    let (channels, channel_stride) = match load {
        Load::Table => (row_stride, 1),
        _ => (product.channels, channel_stride),
    };
    // After the last step, one more step is loaded but not used.
    let terms = window.len() * depth + loaded(form.terms() * tile.rows(), tile.rows(), tile);
    let by_units = form.units.is_some();
    let stored = if by_units { Storage::F16 } else { Storage::F32 };
    let packed = plan.scratch(stored.bytes(terms * quads * 4) / 4, limits)?;
    // Taps that no position of the destination uses are in no phase and are not packed.
    if window.is_empty() {
        return Ok(packed);
    }
    let together = load.taps() as usize;
    let block = if by_units { form.channels() as usize } else { 1 };
    let params = PackParams {
        rows: product.rows as u32,
        padded_rows: 4 * quads as u32,
        quads: quads as u32,
        channels: channels as u32,
        depth: depth as u32,
        row_stride: row_stride as u32,
        channel_stride: channel_stride as u32,
        block: block as u32,
        block_step: (block * together) as u32,
        tap_count: window.len() as u32,
    };
    let groups = fold((quads * depth).div_ceil(SMALL_GROUP as usize), 1, limits)?;
    let buffers = vec![Slot::Operand(1), packed];
    let kernel = if by_units { ConvKernel::PackUnits } else { ConvKernel::Pack };
    let launch = Launch::new(kernel, groups, buffers, &params);
    let first = |tap: usize| tap / together * together * depth + tap % together * block;
    let taps = window.into_iter().enumerate().flat_map(|(n, tap)| [tap as u32, first(n) as u32]);
    plan.launches.push(launch.with_tail(taps));
    Ok(packed)
}

/// Returns how many terms a workgroup reads if it loads `count` values in whole rounds, where a
/// term has `extent` rows or columns.
pub(super) fn loaded(count: u32, extent: u32, tile: Tile) -> usize {
    let quads = (count / 4).next_multiple_of(tile.threads());
    quads.div_ceil(extent / 4) as usize
}
