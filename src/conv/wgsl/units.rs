//! Products in tiles on matrix units: the operands of a step are in workgroup memory as f16, and
//! each subgroup multiplies the matrices of its share of the tile and accumulates in f32.

use super::form::{Form, Load};
use super::kernel::ConvKernel;
use super::kernel::Epilogue::{GradientSums, Moments, Nothing};
use super::tile::Tile;
use super::{ConvPass, gather, weight};
use crate::device::Vendor;
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, MatrixUnits};

/// Every loaded matrix is used in several products: a subgroup of 32 invocations has 2 × 4 matrices
/// of sums. Of tiles with equal cost the first is chosen; on an H200 it is the faster one.
const USUAL: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 8, ty: 16 },
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
    Tile { tm: 4, tn: 4, tx: 16, ty: 8 },
];
/// An additional tile for `--tune`. On an H200, 4 × 4 matrices per subgroup are no faster, because
/// they take more registers.
const MORE: [Tile; 1] = [Tile { tm: 8, tn: 8, tx: 16, ty: 16 }];
/// Cost of loading an element, relative to one multiply-add.
const LOAD: f64 = 64.0;
/// Number of workgroups below which long sums are split.
pub(super) const WORKGROUPS: usize = 512;
/// Padding after each line of a tile, in f16, and after each row of sums, in f32, so that the lines
/// of a matrix are in different banks.
pub(super) const PADDING: [u32; 2] = [8, 4];

/// Returns the device's matrix units if passes with operand 0 stored as `stored` can use them.
pub(super) fn serving(stored: Storage, limits: &DeviceLimits) -> Option<MatrixUnits> {
    limits.matrix_units.filter(|_| stored.is_half() && limits.shader_f16)
}

/// How the matrices of a tile are divided among the subgroups of a workgroup: a subgroup has every
/// `grid`-th matrix along both axes, so that each part of the tile contains matrices of every
/// subgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Rows and columns of the grid of subgroups.
    pub grid: [u32; 2],
    /// Rows and columns of matrices per subgroup.
    pub matrices: [u32; 2],
    /// Rows and columns of matrices per subgroup in a part of the tile. The sums are written part
    /// by part: a part has four rows and four columns per invocation.
    pub in_part: [u32; 2],
}

impl Share {
    /// Returns the share with the fewest loads per product; `None` if the tile cannot be divided.
    pub(super) fn of(tile: Tile, units: MatrixUnits) -> Option<Self> {
        let MatrixUnits { size, lanes, .. } = units;
        let part = [4 * tile.ty, 4 * tile.tx];
        let whole = part.iter().all(|extent| extent.is_multiple_of(size));
        if !whole || tile.tm % 4 + tile.tn % 4 > 0 || !tile.threads().is_multiple_of(lanes) {
            return None;
        }
        let subgroups = tile.threads() / lanes;
        let share = |below: u32| {
            let grid = [below, subgroups / below];
            let fits = |axis: usize| (part[axis] / size).is_multiple_of(grid[axis]);
            let of = |extents: [u32; 2]| [0, 1].map(|axis| extents[axis] / size / grid[axis]);
            let share =
                Self { grid, matrices: of([tile.rows(), tile.columns()]), in_part: of(part) };
            (grid[0] * grid[1] == subgroups && fits(0) && fits(1)).then_some(share)
        };
        let shares = (1..=subgroups).filter_map(share);
        shares.min_by_key(|share| share.matrices.iter().sum::<u32>())
    }
}

/// Chooses the default tile among those that `takes` accepts.
pub(super) fn choose(
    units: MatrixUnits,
    [rows, columns]: [usize; 2],
    limits: &DeviceLimits,
    memory: impl Fn(Tile) -> usize,
    takes: impl Fn(Tile) -> bool,
) -> Option<Tile> {
    let can = |tile: &Tile| Share::of(*tile, units).is_some() && takes(*tile);
    let tiles: Vec<Tile> = USUAL.into_iter().filter(can).collect();
    // The number of loads grows with the edges of a tile.
    let cost = |tile: Tile| 1.0 + LOAD / f64::from(tile.rows()) + LOAD / f64::from(tile.columns());
    Tile::choose(&tiles, rows, columns, limits, memory, cost)
}

fn all(units: MatrixUnits) -> impl Iterator<Item = Tile> {
    USUAL.into_iter().chain(MORE).filter(move |&tile| Share::of(tile, units).is_some())
}

/// Returns the tiles that a device can run for a pass.
pub(super) fn running(
    pass: ConvPass,
    units: MatrixUnits,
    limits: &DeviceLimits,
) -> impl Iterator<Item = Tile> {
    let memory = move |tile| match pass {
        ConvPass::WeightGradient => weight::memory(tile, Some(units)),
        _ => gather::memory(tile, Form::plain(Load::Single).multiplied_by(Some(units))),
    };
    all(units).filter(move |&tile| tile.runs_on(limits, memory(tile)))
}

/// Returns the bytes of workgroup memory for tiles of `halves` f16 in total and for a part of the
/// sums.
pub(super) fn memory(tile: Tile, halves: u32) -> usize {
    let [_, row_padding] = PADDING;
    (2 * halves + 4 * 4 * tile.ty * (4 * tile.tx + row_padding)) as usize
}

/// Returns the forms with these units. NVIDIA GPUs always use two buffers, others only for small
/// tiles.
fn forms(units: MatrixUnits) -> Vec<Form> {
    let nvidia = units.size == 16 && units.lanes == 32;
    let of = |vendor| DeviceLimits { vendor, ..DeviceLimits::WEBGPU };
    let others =
        Form::ALL.map(|form| form.multiplied_by(Some(units)).buffered_for(&of(Vendor::Unknown)));
    let mut forms = others.to_vec();
    if nvidia || units.emulated {
        let nvidia =
            Form::ALL.map(|form| form.multiplied_by(Some(units)).buffered_for(&of(Vendor::Nvidia)));
        forms.extend(nvidia.into_iter().filter(|form| !others.contains(form)));
    }
    forms
}

/// Returns the kernels for the matrix units of known devices (NVIDIA, AMD with either subgroup
/// size, Apple) and for emulated units.
pub(super) fn kernels() -> Vec<ConvKernel> {
    let real = [(16, 32, false), (16, 64, false), (8, 32, true)];
    let units =
        real.map(|(size, lanes, scalars)| MatrixUnits { size, lanes, scalars, emulated: false });
    let emulated =
        [false, true].map(|scalars| MatrixUnits { size: 8, lanes: 32, scalars, emulated: true });
    let mut kernels = Vec::new();
    for units in units.into_iter().chain(emulated) {
        for tile in all(units) {
            let [half, float] = [Storage::F16, Storage::F32];
            kernels.extend(weight::kernels_in(tile, Some(units), half));
            let mut add = |form: Form, epilogue, result| {
                kernels.push(ConvKernel::Gather { tile, form, epilogue, source: half, result });
            };
            for form in forms(units) {
                add(form, Nothing, float);
                if form.is_forward() {
                    if form.load != Load::Table {
                        for epilogue in [Nothing, GradientSums { x: half }] {
                            add(form.written_wide(), epilogue, Storage::Gradient);
                        }
                    }
                    for epilogue in [Nothing, Moments] {
                        add(form.written_wide(), epilogue, half);
                    }
                }
            }
        }
    }
    kernels
}
