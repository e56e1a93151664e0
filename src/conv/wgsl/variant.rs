//! What may be chosen freely in a plan: every variant computes the same product, at a speed that
//! depends on the device.

use serde::{Deserialize, Serialize};

use super::tile::{SoftTile, Tile};
use super::{ConvKernel, ConvPass, gather, soft, weight};
use crate::kernels::DeviceLimits;

/// One way to compute a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvVariant {
    /// In tiles in workgroup memory.
    Tiles {
        /// Their sizes.
        tile: Tile,
        /// Workgroups below which a long sum is split into parts.
        workgroups: usize,
    },
    /// In registers, on software rasterisers.
    Registers {
        /// What an invocation computes.
        tile: SoftTile,
        /// Whether the weights are read unpacked; the weight gradient reads none.
        in_place: bool,
    },
}

impl ConvVariant {
    pub(super) fn tiles(self) -> Option<(Tile, usize)> {
        match self {
            Self::Tiles { tile, workgroups } => Some((tile, workgroups)),
            Self::Registers { .. } => None,
        }
    }

    pub(super) fn registers(self) -> Option<(SoftTile, bool)> {
        match self {
            Self::Tiles { .. } => None,
            Self::Registers { tile, in_place } => Some((tile, in_place)),
        }
    }
}

/// Multiples (numerator, denominator) of the default number of workgroups.
const SPLITS: [(usize, usize); 4] = [(1, 4), (1, 1), (2, 1), (4, 1)];

/// All variants that a device with these limits can run for a pass.
pub(crate) fn variants(pass: ConvPass, limits: &DeviceLimits) -> Vec<ConvVariant> {
    if let Some(lanes) = soft::lanes(limits) {
        let registers = |(tile, in_place)| ConvVariant::Registers { tile, in_place };
        return match pass {
            ConvPass::WeightGradient => {
                soft::weight_tiles(lanes).map(|tile| registers((tile, true))).collect()
            }
            _ => soft::gather_ways(lanes).map(registers).collect(),
        };
    }
    match pass {
        ConvPass::WeightGradient => {
            let tiles = weight::TILES.into_iter().chain(weight::MORE_TILES);
            let runs = tiles.filter(|tile| tile.runs_on(limits, weight::memory(*tile)));
            split(runs, weight::WORKGROUPS)
        }
        _ => {
            let tiles = gather::TILES.into_iter().chain(gather::MORE_TILES);
            let runs = tiles.filter(|tile| tile.runs_on(limits, gather::memory(*tile)));
            split(runs, gather::WORKGROUPS)
        }
    }
}

/// Each tile with long sums split into more and into fewer parts than by default.
fn split(tiles: impl Iterator<Item = Tile>, default: usize) -> Vec<ConvVariant> {
    let splits = |tile| {
        SPLITS.map(|(times, over)| ConvVariant::Tiles { tile, workgroups: default * times / over })
    };
    tiles.flat_map(splits).collect()
}

impl ConvKernel {
    /// Every variant that a plan may ask for.
    pub(crate) fn variants() -> Vec<Self> {
        let mut variants = vec![Self::Pack, Self::SumParts, Self::SoftPackBoth];
        variants.extend([1, 2].map(|tensors| Self::SoftPack { tensors }));
        for tile in gather::TILES.into_iter().chain(gather::MORE_TILES) {
            for flat in [false, true] {
                variants.extend([false, true].map(|moments| Self::Gather { tile, flat, moments }));
            }
        }
        let tiles = weight::TILES.into_iter().chain(weight::MORE_TILES);
        variants.extend(tiles.map(|tile| Self::Weight { tile }));
        for lanes in soft::LANES {
            let ways = soft::gather_ways(lanes);
            variants.extend(ways.map(|(tile, in_place)| Self::SoftGather { tile, in_place }));
            variants.extend(soft::weight_tiles(lanes).map(|tile| Self::SoftWeight { tile }));
        }
        variants
    }
}
