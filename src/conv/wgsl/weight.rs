//! Weight gradient: a product over all output places, `shaders/conv_weight.wgsl`.

use super::{ConvShape, Kernel, Plan, Tile, splits, sum_parts};
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fold};

/// 32 to 64 sums per invocation, as many rows as there are.
pub(super) const TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 12, tn: 4, tx: 32, ty: 4 },
    Tile { tm: 4, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
];
/// Others that a device may like better, to try.
pub(super) const MORE_TILES: [Tile; 3] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 16 },
    Tile { tm: 8, tn: 8, tx: 8, ty: 8 },
    Tile { tm: 8, tn: 4, tx: 16, ty: 8 },
];
/// Workgroups below which the places are cut.
pub(super) const WORKGROUPS: usize = 1024;
/// Places of a step.
const STEP: usize = 16;

/// Bytes of workgroup memory.
pub(super) fn memory(tile: Tile) -> usize {
    let pitch = (tile.rows() + tile.columns()) as usize / 4 + 2;
    pitch * STEP * 16 + tile.columns() as usize * 8
}

/// One launch, or two where the places are split. `way` is the tile, and the workgroups wanted.
pub(super) fn plan(
    shape: &ConvShape,
    limits: &DeviceLimits,
    way: Option<(Tile, usize)>,
) -> Result<Plan, PlanError> {
    let rows = shape.out_channels;
    let columns = shape.in_channels * shape.taps();
    let by_limits =
        || Tile::choose(&TILES, rows, columns, limits, memory).map(|tile| (tile, WORKGROUPS));
    let (tile, workgroups) = way.or_else(by_limits).ok_or(PlanError::Device)?;
    let row_tiles = rows.div_ceil(tile.rows() as usize);
    let tiles = row_tiles * columns.div_ceil(tile.columns() as usize);
    let [t, h, w] = shape.output();
    let steps = (shape.batch * t * h * w).div_ceil(STEP);
    let total = rows * columns;
    let parts = splits([tiles, 1], workgroups, [steps, 8], total * 4, limits);
    let share = steps.div_ceil(parts).max(1);
    let parts = steps.div_ceil(share).max(1);

    let mut plan = Plan::new();
    let target = match parts {
        1 => Slot::Operand(2),
        _ => plan.scratch(parts * total, limits)?,
    };
    let mut params = vec![rows, columns];
    params.extend(shape.input);
    params.extend([t, h, w, shape.batch, shape.in_channels, share, row_tiles]);
    params.extend(shape.stride);
    params.extend(shape.padding);
    params.extend(shape.kernel);
    // STEP in the mixed digits (image, t, h, w).
    params.extend([STEP / (t * h * w), STEP / (h * w) % t, STEP / w % h, STEP % w]);
    plan.launches.push(Launch {
        kernel: Kernel::Weight { tile },
        workgroup_size: [tile.threads(), 1, 1],
        groups: fold(tiles, parts, limits)?,
        buffers: vec![Slot::Operand(0), Slot::Operand(1), target],
        params: params.into_iter().map(|word| word as u32).collect(),
    });
    if parts > 1 {
        plan.launches.push(sum_parts(target, Slot::Operand(2), total, parts, limits)?);
    }
    Ok(plan)
}
