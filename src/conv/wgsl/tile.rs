//! How a product is divided among invocations.

use serde::{Deserialize, Serialize};

use crate::device::Vendor;
use crate::kernels::DeviceLimits;

/// The tile of a workgroup: `tx`·`ty` invocations compute `tm`·`tn` elements of a matrix product
/// each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tile {
    /// Rows per invocation.
    pub tm: u32,
    /// Columns per invocation.
    pub tn: u32,
    /// Number of invocations that divide the columns.
    pub tx: u32,
    /// Number of invocations that divide the rows.
    pub ty: u32,
}

impl Tile {
    /// Returns the number of rows per workgroup.
    pub(crate) fn rows(self) -> u32 {
        self.tm * self.ty
    }

    /// Returns the number of columns per workgroup.
    pub(crate) fn columns(self) -> u32 {
        self.tn * self.tx
    }

    /// Returns the number of invocations per workgroup.
    pub(crate) fn threads(self) -> u32 {
        self.tx * self.ty
    }

    /// Returns the cheapest tile for a matrix of `rows` × `columns`, padding included, among those
    /// that the device can run. `memory` gives the bytes of workgroup memory that a tile needs,
    /// `cost` the relative cost per element.
    pub(crate) fn choose(
        tiles: &[Self],
        rows: usize,
        columns: usize,
        limits: &DeviceLimits,
        memory: impl Fn(Self) -> usize,
        cost: impl Fn(Self) -> f64,
    ) -> Option<Self> {
        let cost = |tile: &Self| {
            let rows = rows.next_multiple_of(tile.rows() as usize);
            let columns = columns.next_multiple_of(tile.columns() as usize);
            rows as f64 * columns as f64 * cost(*tile)
        };
        tiles
            .iter()
            .filter(|tile| tile.runs_on(limits, memory(**tile)))
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .copied()
    }

    /// Returns the relative cost per element if invocations multiply.
    pub(super) fn invocation_cost(self, vendor: Vendor) -> f64 {
        // Reads of workgroup memory per multiply-add; a read costs as much as a multiply-add.
        let (tm, tn) = (self.tm as f64, self.tn as f64);
        let reads = (tm + tn) / (tm * tn);
        // 64 sums spill on devices with few registers per invocation.
        let few = matches!(vendor, Vendor::Intel | Vendor::Unknown);
        let spill = if few && self.tm * self.tn > 32 { 2.0 } else { 1.0 };
        (1.0 + reads) * spill
    }

    /// Checks whether a device supports the invocations and the bytes of workgroup memory of the
    /// tile.
    pub(super) fn runs_on(self, limits: &DeviceLimits, memory: usize) -> bool {
        self.threads() <= limits.max_invocations && memory <= limits.workgroup_memory
    }
}

/// The tiles of a product for one vendor's devices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    /// Tiles that a plan chooses from.
    pub usual: &'static [Tile],
    /// Additional tiles for `--tune`.
    pub more: &'static [Tile],
    /// Number of workgroups below which long sums are split.
    pub workgroups: usize,
}

impl Tiles {
    /// Returns all tiles.
    pub(super) fn all(self) -> impl Iterator<Item = Tile> {
        self.usual.iter().chain(self.more).copied()
    }
}

/// The tile of a product in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SoftTile {
    /// Rows per invocation.
    pub tm: u32,
    /// Columns per invocation.
    pub tn: u32,
    /// Invocations per workgroup, which is one subgroup; they all compute the same rows.
    pub lanes: u32,
}
