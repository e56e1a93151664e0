//! The weight gradient, a product over all output positions: `shaders/conv_weight.wgsl`.

use super::kernel::ConvKernel;
use super::{Tile, units};
use crate::kernels::MatrixUnits;
use crate::kernels::storage::Storage;

/// What the columns of the product are and how its operands are loaded; the shader has the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WeightLoads {
    /// Channels at one tap.
    Tap,
    /// Like [`Self::Tap`], four positions per load: needs rows of a multiple of four and no taps
    /// along w.
    WideTap,
    /// Channels with three taps along w.
    Row,
    /// Like [`Self::Row`], four positions per load: needs rows of a multiple of four.
    WideRow,
    /// Any mix of channels and taps, for few channels.
    Mixed,
}

impl WeightLoads {
    const ALL: [Self; 5] = [Self::Tap, Self::WideTap, Self::Row, Self::WideRow, Self::Mixed];

    /// Returns the number of sums per row and column of the tile.
    pub(super) fn sums(self) -> u32 {
        if self.is_row() { 3 } else { 1 }
    }

    /// Returns the number of positions that are counted and loaded as one.
    pub(super) fn group(self) -> usize {
        if self.is_wide() { 4 } else { 1 }
    }

    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::WideTap | Self::WideRow)
    }

    pub(super) fn is_row(self) -> bool {
        matches!(self, Self::Row | Self::WideRow)
    }

    /// Checks whether there is a kernel with these loads for this tile. Three taps along w take 48
    /// sums with 4×4 elements, and up to 96 in matrix registers.
    pub(super) fn takes(self, tile: Tile, units: Option<MatrixUnits>) -> bool {
        if units.is_some() {
            // In every round, all invocations store, and together fill whole rows or columns of the
            // tiles.
            let loaded = if self.is_wide() { 1 } else { 4 };
            let together = tile.threads() / step(self, units) * loaded;
            let whole = [tile.rows(), tile.columns()].iter().all(|n| n.is_multiple_of(together));
            return whole && !(self.is_row() && tile.tm * tile.tn > 32);
        }
        self.is_row() == ROW_TILES.into_iter().chain(MORE_ROW_TILES).any(|row| row == tile)
    }
}

/// 32 to 64 sums per invocation. With AMD's compiler none of these tiles needs more than 128
/// registers; 64 sums in a workgroup of 64 would.
pub(super) const TILES: [Tile; 4] = [
    Tile { tm: 8, tn: 8, tx: 16, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 16 },
    Tile { tm: 8, tn: 4, tx: 8, ty: 8 },
    Tile { tm: 4, tn: 8, tx: 8, ty: 8 },
];
/// 48 sums per invocation. Half of the networks' channel counts are multiples of 48 but not of 64.
pub(super) const ROW_TILES: [Tile; 2] =
    [Tile { tm: 4, tn: 4, tx: 8, ty: 16 }, Tile { tm: 4, tn: 4, tx: 8, ty: 12 }];
/// Additional tiles for `--tune`.
const MORE_TILES: [Tile; 1] = [Tile { tm: 8, tn: 8, tx: 16, ty: 16 }];
const MORE_ROW_TILES: [Tile; 2] =
    [Tile { tm: 4, tn: 4, tx: 16, ty: 16 }, Tile { tm: 4, tn: 4, tx: 8, ty: 8 }];
/// Number of workgroups below which the positions are split.
pub(super) const WORKGROUPS: usize = 768;

/// Returns all tiles of all kernels.
pub(super) fn tiles() -> impl Iterator<Item = Tile> {
    TILES.into_iter().chain(MORE_TILES).chain(ROW_TILES).chain(MORE_ROW_TILES)
}

/// Returns all kernels without matrix units, with x stored as `x`.
pub(super) fn kernels(x: Storage) -> impl Iterator<Item = ConvKernel> {
    tiles().flat_map(move |tile| kernels_in(tile, None, x))
}

/// Returns all kernels with this tile.
pub(super) fn kernels_in(
    tile: Tile,
    units: Option<MatrixUnits>,
    x: Storage,
) -> impl Iterator<Item = ConvKernel> {
    let loads = WeightLoads::ALL.into_iter().filter(move |loads| loads.takes(tile, units));
    loads.map(move |loads| ConvKernel::Weight { tile, loads, units, x })
}

/// Returns the number of positions per step, as the kernel counts them: eight, or sixteen for the
/// 48 sums with three taps along w, to have fewer barriers, and for matrix units, which take
/// sixteen at once.
pub(super) fn step(loads: WeightLoads, units: Option<MatrixUnits>) -> u32 {
    match loads {
        _ if units.is_some() => 16 / loads.group() as u32,
        WeightLoads::WideTap => 2,
        WeightLoads::WideRow => 4,
        WeightLoads::Row => 16,
        WeightLoads::Tap | WeightLoads::Mixed => 8,
    }
}

/// Returns the pitch of one position in the tiles of both operands, in vec4. It is rounded up so
/// that all invocations store in every round: if a store were conditional, compilers would move its
/// load into the condition, after the product. The pitch also avoids bank conflicts when storing:
/// eight neighbouring invocations store eight positions or, with wide loads, two or four rows of
/// four or two groups.
pub(super) fn pitches(tile: Tile, loads: WeightLoads) -> [u32; 2] {
    let step = step(loads, None);
    let together = tile.threads() / step;
    [tile.rows(), tile.columns()].map(|count| match loads.is_wide() {
        true => count.next_multiple_of(together) + 8 / step,
        false => (count / 4).next_multiple_of(together) | 1,
    })
}

/// Returns the most bytes of workgroup memory that a kernel with this tile needs: for both buffers
/// of the tiles and, with matrix units, for their sums; `usize::MAX` if no kernel has this tile.
pub(super) fn memory(tile: Tile, units: Option<MatrixUnits>) -> usize {
    let loads = WeightLoads::ALL.into_iter().filter(|loads| loads.takes(tile, units));
    let bytes = loads.map(|loads| {
        if units.is_some() {
            let [padding, _] = units::PADDING;
            let positions = 16 + u32::from(loads.is_row());
            return units::memory(
                tile,
                2 * positions * (tile.rows() + tile.columns() + 2 * padding),
            );
        }
        let [a, b] = pitches(tile, loads);
        2 * step(loads, None) as usize * (a + b) as usize * 16
    });
    bytes.max().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use naga::AddressSpace;

    use super::*;
    use crate::kernels::plan::Shader;

    #[test]
    fn every_kernel_fits_into_the_computed_memory() {
        for kernel in kernels(Storage::F32).chain(units::kernels()) {
            let ConvKernel::Weight { tile, loads, units, .. } = kernel else { continue };
            let module = naga::front::wgsl::parse_str(&kernel.source()).unwrap();
            let shared = module.global_variables.iter().map(|(_, variable)| variable);
            let shared = shared.filter(|variable| variable.space == AddressSpace::WorkGroup);
            let bytes: u32 =
                shared.map(|variable| module.types[variable.ty].inner.size(module.to_ctx())).sum();
            assert!(bytes > 0 && bytes as usize <= memory(tile, units), "{kernel:?}: {bytes}");
            // A subgroup is 8 × 4 invocations.
            assert!(tile.tx.is_multiple_of(8) && tile.ty.is_multiple_of(4), "{tile:?}");
            let step = step(loads, units);
            assert!(tile.threads().is_multiple_of(step), "{kernel:?}");
            if units.is_some() {
                // In every round, all invocations together fill whole rows or columns of the tiles.
                let together = tile.threads() / step * if loads.is_wide() { 1 } else { 4 };
                assert!(tile.rows().is_multiple_of(together), "{kernel:?}");
                assert!(tile.columns().is_multiple_of(together), "{kernel:?}");
            }
        }
    }
}
