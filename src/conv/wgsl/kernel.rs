//! The shaders' variants and their source.

use serde::{Deserialize, Serialize};

use super::{gather, soft, source, weight};
use crate::kernels::plan::{DeviceLimits, Shader};

/// How a matrix product is dealt out: `tx`·`ty` invocations make `tm`·`tn` elements each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// run given the bytes of workgroup memory that each takes.
    pub(crate) fn choose(
        tiles: &[Self],
        rows: usize,
        columns: usize,
        limits: &DeviceLimits,
        memory: impl Fn(Self) -> usize,
    ) -> Option<Self> {
        let cost = |tile: &Self| {
            let rows = rows.next_multiple_of(tile.rows() as usize);
            let columns = columns.next_multiple_of(tile.columns() as usize);
            // Reads of workgroup memory per multiply-add, and what every one of these costs
            // beside the multiply-adds.
            let (tm, tn) = (tile.tm as f64, tile.tn as f64);
            let reads = (tm + tn) / (tm * tn);
            // 64 sums spill where an invocation has few registers: Intel, the one with subgroups
            // from 8 on.
            let few = limits.subgroup[0] == 8;
            let spill = if few && tile.tm * tile.tn > 32 { 2.0 } else { 1.0 };
            rows as f64 * columns as f64 * (1.0 + reads) * spill
        };
        tiles
            .iter()
            .filter(|tile| tile.runs_on(limits, memory(**tile)))
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .copied()
    }

    /// Whether a device has the invocations, and the bytes of workgroup memory that it takes.
    pub(super) fn runs_on(self, limits: &DeviceLimits, memory: usize) -> bool {
        self.threads() <= limits.max_invocations && memory <= limits.workgroup_memory
    }
}

/// How a product in registers is dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SoftTile {
    /// Rows of an invocation.
    pub tm: u32,
    /// Columns of an invocation.
    pub tn: u32,
    /// Invocations of a workgroup.
    pub threads: u32,
    /// Invocations of a subgroup, which is then the workgroup and shares its rows; 0 where each
    /// invocation is alone.
    pub lanes: u32,
}

/// Which shader, in which variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Weights into the order of the product.
    Pack,
    /// Forward and input gradient in tiles. `flat` serves sources of few channels.
    Gather {
        /// Its sizes.
        tile: Tile,
        /// Taps and channels mixed.
        flat: bool,
    },
    /// Weight gradient in tiles.
    Weight {
        /// Its sizes.
        tile: Tile,
    },
    /// Second stage of a split reduction.
    SumParts,
    /// A tensor with four channels to a vec4, for the kernels in registers.
    SoftPack,
    /// Forward and input gradient in registers.
    SoftGather {
        /// Its sizes.
        tile: SoftTile,
        /// Whether the weights are read unpacked.
        in_place: bool,
    },
    /// Weight gradient in registers.
    SoftWeight {
        /// Its sizes.
        tile: SoftTile,
    },
}

impl Kernel {
    /// Every variant that a plan may ask for, on devices whose subgroups have `lanes` invocations.
    /// For validation without a device.
    pub fn variants(lanes: u32) -> Vec<Self> {
        let mut variants = vec![Self::Pack, Self::SumParts, Self::SoftPack];
        for tile in gather::TILES.into_iter().chain(gather::MORE_TILES) {
            variants.extend([false, true].map(|flat| Self::Gather { tile, flat }));
        }
        let tiles = weight::TILES.into_iter().chain(weight::MORE_TILES);
        variants.extend(tiles.map(|tile| Self::Weight { tile }));
        let ways = soft::gather_ways(lanes);
        variants.extend(ways.map(|(tile, in_place)| Self::SoftGather { tile, in_place }));
        variants.extend(soft::weight_tiles(lanes).map(|tile| Self::SoftWeight { tile }));
        variants
    }
}

impl Shader for Kernel {
    fn file(&self) -> &'static str {
        match self {
            Self::Pack => "conv_pack.wgsl",
            Self::SumParts => "conv_sum.wgsl",
            Self::Gather { .. } => "conv_gather.wgsl",
            Self::Weight { .. } => "conv_weight.wgsl",
            Self::SoftPack => "conv_soft_pack.wgsl",
            Self::SoftGather { .. } => "conv_soft_gather.wgsl",
            Self::SoftWeight { .. } => "conv_soft_weight.wgsl",
        }
    }

    fn source(&self) -> String {
        match *self {
            Self::Pack => include_str!("../../../shaders/conv_pack.wgsl").to_owned(),
            Self::SumParts => include_str!("../../../shaders/conv_sum.wgsl").to_owned(),
            Self::Gather { tile, flat } => source::gather(tile, flat),
            Self::Weight { tile } => source::weight(tile),
            Self::SoftPack => include_str!("../../../shaders/conv_soft_pack.wgsl").to_owned(),
            Self::SoftGather { tile, in_place } => source::soft_gather(tile, in_place),
            Self::SoftWeight { tile } => source::soft_weight(tile),
        }
    }
}
