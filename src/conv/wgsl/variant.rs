//! The free choices in a plan: every variant computes the same product, at a speed that depends on
//! the device.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::form::{Form, Load};
use super::kernel::Epilogue::{self, Moments, Nothing};
use super::tile::{SoftTile, Tile};
use super::{ConvKernel, ConvPass, gather, soft, units, weight};
use crate::device::Vendor;
use crate::kernels::DeviceLimits;
use crate::kernels::storage::Storage;

/// One way to compute a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvVariant {
    /// Tiles in workgroup memory.
    Tiles {
        /// Tile size.
        tile: Tile,
        /// Number of workgroups below which long sums are split into parts.
        workgroups: usize,
    },
    /// Tiles whose products matrix units compute, in half precision.
    Units {
        /// Tile size.
        tile: Tile,
        /// Number of workgroups below which long sums are split into parts.
        workgroups: usize,
    },
    /// Registers only, on software rasterisers.
    Registers {
        /// Tile size.
        tile: SoftTile,
        /// Whether the weights are read unpacked. The weight gradient reads no weights.
        in_place: bool,
    },
}

impl ConvVariant {
    pub(super) fn tiles(self) -> Option<(Tile, usize)> {
        match self {
            Self::Tiles { tile, workgroups } => Some((tile, workgroups)),
            _ => None,
        }
    }

    pub(super) fn units(self) -> Option<(Tile, usize)> {
        match self {
            Self::Units { tile, workgroups } => Some((tile, workgroups)),
            _ => None,
        }
    }

    pub(super) fn registers(self) -> Option<(SoftTile, bool)> {
        match self {
            Self::Tiles { .. } | Self::Units { .. } => None,
            Self::Registers { tile, in_place } => Some((tile, in_place)),
        }
    }
}

/// Multiples (numerator, denominator) of the default number of workgroups.
const SPLITS: [(usize, usize); 3] = [(1, 1), (1, 4), (2, 1)];

/// Returns all variants that a device with these limits can run for a pass, with activations stored
/// as `stored`.
pub(crate) fn variants(pass: ConvPass, stored: Storage, limits: &DeviceLimits) -> Vec<ConvVariant> {
    let mut variants = variants_without_units(pass, limits);
    if let Some(units) = units::serving(pass.storage(stored), limits) {
        let tiles: Vec<Tile> = units::running(pass, units, limits).collect();
        let mut first = split(tiles.iter().copied(), units::WORKGROUPS, by_units);
        // A trial only takes the first variants, and these should include both kinds.
        let more = first.split_off(tiles.len());
        variants = [first, variants, more].concat();
    }
    variants
}

fn by_units(tile: Tile, workgroups: usize) -> ConvVariant {
    ConvVariant::Units { tile, workgroups }
}

fn in_tiles(tile: Tile, workgroups: usize) -> ConvVariant {
    ConvVariant::Tiles { tile, workgroups }
}

fn variants_without_units(pass: ConvPass, limits: &DeviceLimits) -> Vec<ConvVariant> {
    if let Some(lanes) = soft::lanes(limits) {
        let registers = |(tile, in_place)| ConvVariant::Registers { tile, in_place };
        return match pass {
            ConvPass::WeightGradient => {
                soft::weight_tiles(lanes).map(|tile| registers((tile, true))).collect()
            }
            _ => soft::gather_variants(lanes).map(registers).collect(),
        };
    }
    match pass {
        ConvPass::WeightGradient => {
            let runs =
                weight::tiles().filter(|tile| tile.runs_on(limits, weight::memory(*tile, None)));
            split(runs, weight::WORKGROUPS, in_tiles)
        }
        _ => {
            let tiles = gather::tiles(limits.vendor);
            let memory = |tile| gather::memory(tile, Form::plain(Load::Single));
            let runs = tiles.all().filter(|tile| tile.runs_on(limits, memory(*tile)));
            split(runs, tiles.workgroups, in_tiles)
        }
    }
}

/// Returns each tile with the default splitting, then with long sums split into fewer and more
/// parts.
fn split(
    tiles: impl Iterator<Item = Tile>,
    default: usize,
    variant: fn(Tile, usize) -> ConvVariant,
) -> Vec<ConvVariant> {
    let tiles: Vec<Tile> = tiles.collect();
    let with =
        |workgroups| tiles.iter().map(move |&tile| variant(tile, workgroups)).collect::<Vec<_>>();
    SPLITS.into_iter().flat_map(|(times, over)| with(default * times / over)).collect()
}

impl ConvKernel {
    /// Returns every variant that a plan may use.
    pub(crate) fn variants() -> Vec<Self> {
        let mut variants = vec![Self::Pack, Self::PackUnits, Self::SumParts, Self::SoftPackWeights];
        let storages = || [Storage::F32].into_iter().chain(Storage::HALVES);
        for first in storages() {
            variants.extend([1, 2].map(|tensors| Self::SoftPack { tensors, first }));
        }
        let gradient = Storage::Gradient;
        variants.extend(Storage::HALVES.into_iter().chain([gradient]).map(Self::SumHalf));
        let tiles: BTreeSet<Tile> =
            Vendor::ALL.into_iter().flat_map(|vendor| gather::tiles(vendor).all()).collect();
        for tile in tiles {
            let gather = |form, epilogue, source, result| Self::Gather {
                tile,
                form,
                epilogue,
                source,
                result,
            };
            let float = Storage::F32;
            let sums = |x| Epilogue::GradientSums { x };
            variants.extend(Form::ALL.map(|form| gather(form, Nothing, float, float)));
            for form in Form::ALL {
                // Input gradients of strided windows have no other variants.
                if !form.is_forward() {
                    variants.push(gather(form, Nothing, Storage::Packed, float));
                    continue;
                }
                let wide = form.written_wide();
                if form.load != Load::Table {
                    variants.push(gather(form, sums(float), float, float));
                    for epilogue in [Nothing].into_iter().chain(Storage::HALVES.map(sums)) {
                        variants.push(gather(wide, epilogue, Storage::Packed, gradient));
                    }
                }
                variants.push(gather(form, Moments, float, float));
                for half in Storage::HALVES {
                    variants.push(gather(form, Nothing, half, float));
                    variants.extend([Nothing, Moments].map(|more| gather(wide, more, half, half)));
                }
            }
        }
        variants.extend(units::kernels());
        variants.extend(storages().flat_map(weight::kernels));
        for lanes in soft::LANES {
            let ways = soft::gather_variants(lanes);
            variants.extend(ways.map(|(tile, in_place)| Self::SoftGather { tile, in_place }));
            variants.extend(soft::weight_tiles(lanes).map(|tile| Self::SoftWeight { tile }));
        }
        variants
    }
}
