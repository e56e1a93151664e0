//! The shaders' variants and their source.

use super::tile::{SoftTile, Tile};
use super::{gather, soft, source, weight};
use crate::kernels::plan::Shader;

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
