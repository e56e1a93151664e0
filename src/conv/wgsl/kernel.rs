//! The variants of the shaders and their source.

use super::form::{Form, Load};
use super::params::{
    GatherParams, PackParams, PhaseRecord, SoftGatherParams, SoftPackParams, SoftPackWeightsParams,
    SoftWeightParams, SumHalfParams, SumParams, TableRow, TensorRecord, WeightParams,
};
use super::source;
use super::tile::{SoftTile, Tile};
use super::weight::WeightLoads;
use crate::kernels::MatrixUnits;
use crate::kernels::layout::{Layout, Record};
use crate::kernels::plan::{Shader, fill};
use crate::kernels::storage::Storage;

/// A shader in one of its variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ConvKernel {
    /// Packs the weights for the products in tiles.
    Pack,
    /// Packs the weights in f16, for matrix units.
    PackUnits,
    /// Forward and input gradient in tiles.
    Gather { tile: Tile, form: Form, epilogue: Epilogue, source: Storage, result: Storage },
    /// Weight gradient in tiles; dy is stored like the gradient of x.
    Weight { tile: Tile, loads: WeightLoads, units: Option<MatrixUnits>, x: Storage },
    /// Second stage of a split reduction.
    SumParts,
    /// Like [`Self::SumParts`], but writes half precision; a single part is just converted.
    SumHalf(Storage),
    /// Packs one or two tensors with four channels per vec4, for the register kernels; a second
    /// tensor is stored like the gradient of the first one.
    SoftPack { tensors: u32, first: Storage },
    /// Packs the weights in the same way.
    SoftPackWeights,
    /// Forward and input gradient in registers; with `in_place` the weights are read unpacked.
    SoftGather { tile: SoftTile, in_place: bool },
    /// Weight gradient in registers.
    SoftWeight { tile: SoftTile },
}

/// Additional output of a kernel for each row of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    /// No additional output.
    Nothing,
    /// Mean and sum of squared deviations, for a forward pass.
    Moments,
    /// The sums that the preceding normalisation, whose input is stored as `x`, needs of an input
    /// gradient.
    GradientSums { x: Storage },
}

impl Epilogue {
    /// Returns the number of buffers that the epilogue binds.
    pub(super) fn bindings(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Moments => 1,
            Self::GradientSums { .. } => 3,
        }
    }
}

impl Shader for ConvKernel {
    fn file(&self) -> &'static str {
        match self {
            Self::Pack => "conv_pack.wgsl",
            Self::PackUnits => "conv_pack_units.wgsl",
            Self::SumParts => "conv_sum.wgsl",
            Self::SumHalf(_) => "conv_sum_half.wgsl",
            Self::Gather { .. } => "conv_gather.wgsl",
            Self::Weight { .. } => "conv_weight.wgsl",
            Self::SoftPack { .. } => "conv_soft_pack.wgsl",
            Self::SoftPackWeights => "conv_soft_weights.wgsl",
            Self::SoftGather { .. } => "conv_soft_gather.wgsl",
            Self::SoftWeight { .. } => "conv_soft_weight.wgsl",
        }
    }

    fn source(&self) -> String {
        match *self {
            Self::Pack => pack(),
            Self::PackUnits => pack_units(),
            Self::SumParts => include_str!("../../../shaders/conv_sum.wgsl").to_owned(),
            Self::SumHalf(half) => sum_half(half),
            Self::Gather { tile, form, epilogue, source, result } => {
                source::gather(tile, form, epilogue, [source, result])
            }
            Self::Weight { tile, loads, units, x } => source::weight(tile, loads, units, x),
            Self::SoftPack { tensors, first } => source::soft_pack(tensors, first),
            Self::SoftPackWeights => {
                include_str!("../../../shaders/conv_soft_weights.wgsl").to_owned()
            }
            Self::SoftGather { tile, in_place } => source::soft_gather(tile, in_place),
            Self::SoftWeight { tile } => source::soft_weight(tile),
        }
    }

    fn workgroup_size(&self) -> u32 {
        match self {
            Self::Pack
            | Self::PackUnits
            | Self::SumParts
            | Self::SumHalf(_)
            | Self::SoftPack { .. }
            | Self::SoftPackWeights => SMALL_GROUP,
            Self::Gather { tile, .. } | Self::Weight { tile, .. } => tile.threads(),
            Self::SoftGather { tile, .. } | Self::SoftWeight { tile } => tile.lanes,
        }
    }

    fn params(&self) -> &'static Layout {
        match self {
            Self::Pack | Self::PackUnits => PackParams::LAYOUT,
            Self::SumParts => SumParams::LAYOUT,
            Self::SumHalf(_) => SumHalfParams::LAYOUT,
            Self::Gather { .. } => GatherParams::LAYOUT,
            Self::Weight { .. } => WeightParams::LAYOUT,
            Self::SoftPack { .. } => SoftPackParams::LAYOUT,
            Self::SoftPackWeights => SoftPackWeightsParams::LAYOUT,
            Self::SoftGather { .. } => SoftGatherParams::LAYOUT,
            Self::SoftWeight { .. } => SoftWeightParams::LAYOUT,
        }
    }

    fn records(&self) -> &'static [&'static Layout] {
        match self {
            Self::Gather { form: Form { load: Load::Table, .. }, .. } => {
                &[PhaseRecord::LAYOUT, TableRow::LAYOUT]
            }
            Self::Gather { .. } | Self::SoftGather { .. } => &[PhaseRecord::LAYOUT],
            Self::SoftPack { .. } => &[TensorRecord::LAYOUT],
            _ => &[],
        }
    }
}

impl ConvKernel {
    /// Checks whether the kernel uses matrix units, real or emulated.
    pub(crate) fn has_units(self) -> bool {
        match self {
            Self::Gather { form, .. } => form.units.is_some(),
            Self::Weight { units, .. } => units.is_some(),
            _ => false,
        }
    }
}

/// The common text of both shaders that pack weights.
const PACK_PARAMS: &str = include_str!("../../../shaders/include/conv_pack_params.wgsl");

/// Returns the source of `conv_pack.wgsl`.
fn pack() -> String {
    let values = [("conv_pack_params.wgsl", PACK_PARAMS.to_owned())];
    fill(include_str!("../../../shaders/conv_pack.wgsl"), &values)
}

/// Returns the source of `conv_pack_units.wgsl`; `store` is the function that stores f16.
fn pack_units() -> String {
    let values = [
        ("conv_pack_params.wgsl", PACK_PARAMS.to_owned()),
        ("store", Storage::F16.store(&["packed"])),
    ];
    let text = include_str!("../../../shaders/conv_pack_units.wgsl");
    Storage::F16.directive().to_owned() + &fill(text, &values)
}

/// Returns the source of `conv_sum_half.wgsl`.
fn sum_half(half: Storage) -> String {
    let values = [
        ("stored", half.element(true).to_owned()),
        ("store", half.store(&["dst"])),
        ("write", half.write("dst", "at", "sum")),
    ];
    half.directive().to_owned()
        + &fill(include_str!("../../../shaders/conv_sum_half.wgsl"), &values)
}

/// Workgroup size of the kernels that only move or add up values.
pub(super) const SMALL_GROUP: u32 = 64;
