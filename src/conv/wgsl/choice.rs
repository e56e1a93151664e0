//! What may be chosen freely in a plan: every choice gives the same product, at a speed that
//! depends on the device.

use serde::{Deserialize, Serialize};

use super::tile::{SoftTile, Tile};
use super::{Pass, gather, soft, weight};
use crate::kernels::plan::DeviceLimits;

/// One way to compute a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// In tiles in workgroup memory.
    Tiles {
        /// Their sizes.
        tile: Tile,
        /// Workgroups below which a long sum is cut into parts.
        workgroups: usize,
    },
    /// In registers.
    Registers {
        /// What an invocation makes.
        tile: SoftTile,
        /// Whether the weights are read unpacked; the weight gradient reads none.
        in_place: bool,
    },
}

impl Choice {
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

/// Shares and multiples of the workgroups that are wanted by default.
const CUTS: [(usize, usize); 4] = [(1, 4), (1, 1), (2, 1), (4, 1)];

/// All ways in which a device with these limits can compute a pass.
pub fn choices(pass: Pass, limits: &DeviceLimits) -> Vec<Choice> {
    if limits.software {
        let lanes = soft::lanes(limits);
        let registers = |(tile, in_place)| Choice::Registers { tile, in_place };
        return match pass {
            Pass::WeightGradient => {
                soft::weight_tiles(lanes).map(|tile| registers((tile, true))).collect()
            }
            _ => soft::gather_ways(lanes).map(registers).collect(),
        };
    }
    match pass {
        Pass::WeightGradient => {
            let tiles = weight::TILES.into_iter().chain(weight::MORE_TILES);
            let runs = tiles.filter(|tile| tile.runs_on(limits, weight::memory(*tile)));
            cut(runs, weight::WORKGROUPS)
        }
        _ => {
            let tiles = gather::TILES.into_iter().chain(gather::MORE_TILES);
            let runs = tiles.filter(|tile| tile.runs_on(limits, gather::memory(*tile)));
            cut(runs, gather::WORKGROUPS)
        }
    }
}

/// Each tile with long sums cut into more and into fewer parts than usual.
fn cut(tiles: impl Iterator<Item = Tile>, usual: usize) -> Vec<Choice> {
    let cuts =
        |tile| CUTS.map(|(times, over)| Choice::Tiles { tile, workgroups: usual * times / over });
    tiles.flat_map(cuts).collect()
}
