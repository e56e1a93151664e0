//! How a product is divided among invocations.

use serde::{Deserialize, Serialize};

use crate::device::Vendor;
use crate::kernels::DeviceLimits;

/// How a matrix product is divided: `tx`·`ty` invocations compute `tm`·`tn` elements each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tile {
    /// Rows of an invocation.
    pub tm: u32,
    /// Columns of an invocation.
    pub tn: u32,
    /// Invocations side by side.
    pub tx: u32,
    /// Invocations below each other.
    pub ty: u32,
}

impl Tile {
    /// Rows of a workgroup.
    pub fn rows(self) -> u32 {
        self.tm * self.ty
    }

    /// Columns of a workgroup.
    pub fn columns(self) -> u32 {
        self.tn * self.tx
    }

    /// Invocations of a workgroup.
    pub fn threads(self) -> u32 {
        self.tx * self.ty
    }

    /// The tile that wastes least on a matrix of `rows` × `columns`, of those that the device can
    /// run given the bytes of workgroup memory that each needs; `cost` is that of an element.
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

    /// The cost of an element where invocations multiply.
    pub(super) fn by_invocations(self, vendor: Vendor) -> f64 {
        // Reads of workgroup memory per multiply-add; a read costs as much as one.
        let (tm, tn) = (self.tm as f64, self.tn as f64);
        let reads = (tm + tn) / (tm * tn);
        // 64 sums spill where an invocation has few registers.
        let few = matches!(vendor, Vendor::Intel | Vendor::Unknown);
        let spill = if few && self.tm * self.tn > 32 { 2.0 } else { 1.0 };
        (1.0 + reads) * spill
    }

    /// Whether a device has the invocations and the bytes of workgroup memory that it needs.
    pub(super) fn runs_on(self, limits: &DeviceLimits, memory: usize) -> bool {
        self.threads() <= limits.max_invocations && memory <= limits.workgroup_memory
    }
}

/// The tiles of a product for one maker's devices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    /// What a plan chooses from.
    pub usual: &'static [Tile],
    /// More for `--tune`.
    pub more: &'static [Tile],
    /// Workgroups below which a long sum is split.
    pub workgroups: usize,
}

impl Tiles {
    /// All of them.
    pub(super) fn all(self) -> impl Iterator<Item = Tile> {
        self.usual.iter().chain(self.more).copied()
    }
}

/// How a product in registers is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SoftTile {
    /// Rows of an invocation.
    pub tm: u32,
    /// Columns of an invocation.
    pub tn: u32,
    /// Invocations of a subgroup, which is the workgroup and shares its rows.
    pub lanes: u32,
}
