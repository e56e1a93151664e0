//! Weight gradient: a product over all output positions, `shaders/conv_weight.wgsl`.

use super::kernel::ConvKernel;
use super::params::{WeightParams, u32s};
use super::{ConvPlan, ConvShape, Tile, splits, sum_parts};
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};

/// 32 to 64 sums per invocation, as many rows as there are.
pub(super) const TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 12, tn: 4, tx: 32, ty: 4 },
    Tile { tm: 4, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
];
/// More for `--tune`.
pub(super) const MORE_TILES: [Tile; 3] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 16 },
    Tile { tm: 8, tn: 8, tx: 8, ty: 8 },
    Tile { tm: 8, tn: 4, tx: 16, ty: 8 },
];
/// Workgroups below which the positions are split.
pub(super) const WORKGROUPS: usize = 1024;
/// Positions of a step.
const STEP: usize = 16;

/// Bytes of workgroup memory.
pub(super) fn memory(tile: Tile) -> usize {
    let pitch = (tile.rows() + tile.columns()) as usize / 4 + 2;
    pitch * STEP * 16 + tile.columns() as usize * 8
}

/// One launch, or two where the positions are split. `variant` is the tile, and the workgroups
/// wanted.
pub(super) fn plan(
    shape: &ConvShape,
    limits: &DeviceLimits,
    variant: Option<(Tile, usize)>,
) -> Result<ConvPlan, PlanError> {
    let rows = shape.out_channels;
    let columns = shape.in_channels * shape.taps();
    let by_limits =
        || Tile::choose(&TILES, rows, columns, limits, memory).map(|tile| (tile, WORKGROUPS));
    let (tile, workgroups) = variant.or_else(by_limits).ok_or(PlanError::Device)?;
    let row_tiles = rows.div_ceil(tile.rows() as usize);
    let tiles = row_tiles * columns.div_ceil(tile.columns() as usize);
    let [t, h, w] = shape.output();
    let steps = (shape.batch * t * h * w).div_ceil(STEP);
    let total = rows * columns;
    let parts = splits([tiles, 1], workgroups, [steps, 8], total * 4, limits);
    let part_steps = steps.div_ceil(parts).max(1);
    let parts = steps.div_ceil(part_steps).max(1);

    let mut plan = ConvPlan::new();
    let target = match parts {
        1 => Slot::Operand(2),
        _ => plan.scratch(parts * total, limits)?,
    };
    let params = WeightParams {
        in_size: u32s(shape.input),
        in_plane: shape.input.iter().product::<usize>() as u32,
        out_size: u32s([t, h, w]),
        out_plane: (t * h * w) as u32,
        stride: u32s(shape.stride),
        images: shape.batch as u32,
        padding: shape.padding.map(|padding| padding as i32),
        channels: shape.in_channels as u32,
        window: u32s(shape.kernel),
        row_tiles: row_tiles as u32,
        advance: u32s([STEP / (t * h * w), STEP / (h * w) % t, STEP / w % h, STEP % w]),
        rows: rows as u32,
        columns: columns as u32,
        steps: steps as u32,
        part_steps: part_steps as u32,
    };
    plan.launches.push(Launch::new(
        ConvKernel::Weight { tile },
        fold(tiles, parts, limits)?,
        vec![Slot::Operand(0), Slot::Operand(1), target],
        &params,
    ));
    if parts > 1 {
        plan.launches.push(sum_parts(target, Slot::Operand(2), total, parts, limits)?);
    }
    Ok(plan)
}
