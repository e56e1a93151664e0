//! 3D convolution on a device that runs WGSL: forward, input gradient, weight gradient.
//!
//! All three are matrix products whose operands are gathered while they are loaded; nothing is
//! unrolled in memory but the weights, which are packed into the order of the product. There are
//! two families of kernels: `gather` and `weight` work in tiles in workgroup memory, as GPUs need
//! it; `soft` works in registers alone, for software rasterisers.
//!
//! The same operands give the same bits in every run on a device; nothing is atomic.

mod form;
mod gather;
mod kernel;
mod pack;
mod params;
mod soft;
mod source;
mod tile;
mod units;
mod variant;
mod weight;

pub(crate) use kernel::ConvKernel;
pub(crate) use tile::Tile;
pub(crate) use variant::{ConvVariant, variants};

use serde::{Deserialize, Serialize};

use super::ConvShape;
use crate::kernels::plan::{self, DeviceLimits, Launch, PlanError, Shader, Slot};
use crate::kernels::storage::Storage;
use kernel::{Epilogue, SMALL_GROUP};
use params::{SumHalfParams, SumParams};

/// Which of the three.
///
/// | pass | operand 0 | operand 1 | operand 2, written |
/// |---|---|---|---|
/// | `Forward` | `x` | `w` | `y` |
/// | `InputGradient` | `dy` | `w` | `dx` |
/// | `WeightGradient` | `x` | `dy` | `dw` |
///
/// `x` and `y` may be stored in half precision, `dx` and `dy` then are too; weights are in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvPass {
    /// `y` from `x` and `w`.
    Forward,
    /// `dx` from `dy` and `w`.
    InputGradient,
    /// `dw` from `x` and `dy`.
    WeightGradient,
}

impl ConvPass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];

    /// How operand 0 is stored where activations are stored as `activations` says.
    pub(crate) fn storage(self, activations: Storage) -> Storage {
        match self {
            Self::Forward | Self::WeightGradient => activations,
            Self::InputGradient => activations.gradient(),
        }
    }
}

/// A convolution's launches.
pub(crate) type ConvPlan = plan::Plan<ConvKernel>;

/// How to compute `pass` on a device, with activations stored this way, in the variant that its limits
/// suggest. Every element of the last operand is written.
pub(crate) fn plan(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Result<ConvPlan, PlanError> {
    plan_as(pass, shape, stored, limits, None)
}

/// The same in one of the [`variants`].
pub(crate) fn plan_as(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
    variant: Option<ConvVariant>,
) -> Result<ConvPlan, PlanError> {
    check(shape)?;
    let stored = pass.storage(stored);
    for words in [shape.input_len(), shape.weight_len(), shape.output_len()] {
        plan::fits(words, limits)?;
    }
    let product = || match pass {
        ConvPass::InputGradient => gather::Product::input_gradient(shape),
        _ => gather::Product::forward(shape),
    };
    // A variant by another name does without them.
    let by_units = variant.map_or(Some(None), |variant| variant.units().map(Some));
    if let (Some(units), Some(tiles)) = (units::serving(stored, limits), by_units) {
        let plan = match pass {
            ConvPass::WeightGradient => weight::plan(shape, limits, tiles, Some(units), stored),
            _ => gather::plan(product(), limits, tiles, Some(units), stored),
        };
        if plan.is_ok() || variant.is_some() {
            return plan;
        }
    }
    if let Some(lanes) = soft::lanes(limits) {
        let registers = variant.and_then(ConvVariant::registers);
        let plan = match pass {
            ConvPass::WeightGradient => {
                soft::weight(shape, limits, lanes, registers.map(|(tile, _)| tile), stored)
            }
            _ => soft::gather(&product(), limits, lanes, registers, stored),
        };
        // Those kernels copy their operands, with margins; the ones below do not.
        if !matches!(plan, Err(PlanError::TooLarge { .. })) {
            return plan;
        }
    }
    let tiles = variant.and_then(ConvVariant::tiles);
    match pass {
        ConvPass::WeightGradient => weight::plan(shape, limits, tiles, None, stored),
        _ => gather::plan(product(), limits, tiles, None, stored),
    }
}

/// A pass that gives what a normalisation needs of its result too, in parts: [`with_parts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanWithParts {
    /// The launches; operand 3, written, has two numbers for each part: `[channels, parts, 2]`.
    pub plan: ConvPlan,
    /// Values of a part, counted over N and time and space; the last one may have fewer.
    pub slice: usize,
    /// Parts of a channel.
    pub parts: usize,
}

/// The `plan` of a pass with what a normalisation needs of its result, where the last launch makes whole
/// sums in tiles: a split sum is complete only after the kernel that could give it.
///
/// A forward pass gives mean and sum of squared deviations of y. An input gradient gives, for the
/// normalisation with ReLU that made x, Σ g and Σ g·(x' − mean), where g is dx, and 0 where the ReLU was
/// closed; operand 4 is that normalisation's x', 5 what its forward pass kept. Strided windows give
/// nothing: their tiles are no neighbours in dx.
pub(crate) fn with_parts(
    pass: ConvPass,
    plan: &ConvPlan,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Option<PlanWithParts> {
    let (wanted, result) = match pass {
        ConvPass::Forward => (Epilogue::Moments, shape.y()),
        ConvPass::InputGradient if shape.stride == [1; 3] => {
            (Epilogue::GradientSums { x: stored }, shape.x())
        }
        ConvPass::InputGradient | ConvPass::WeightGradient => return None,
    };
    let mut plan = plan.clone();
    let last = plan.launches.last_mut()?;
    let ConvKernel::Gather { tile, form, epilogue, .. } = &mut last.kernel else { return None };
    let memory = gather::memory(*tile, *form);
    let more = source::epilogue_memory(*tile, *form)?;
    let slice = tile.columns() as usize;
    let [batch, channels, t, h, w] = result;
    let parts = (batch * t * h * w).div_ceil(slice);
    plan::fits(2 * channels * parts, limits).ok()?;
    (memory + more <= limits.workgroup_memory).then(|| *epilogue = wanted)?;
    last.buffers.extend((0..wanted.bindings() as usize).map(|n| Slot::Operand(3 + n)));
    Some(PlanWithParts { plan, slice, parts })
}

/// The variants whose plans differ, with these plans.
pub(crate) fn distinct_plans(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Vec<(ConvVariant, ConvPlan)> {
    let mut plans: Vec<(ConvVariant, ConvPlan)> = Vec::new();
    for variant in variants(pass, stored, limits) {
        let Ok(plan) = plan_as(pass, shape, stored, limits, Some(variant)) else { continue };
        if plans.iter().all(|(_, known)| *known != plan) {
            plans.push((variant, plan));
        }
    }
    plans
}

/// Whether the kernels can serve these sizes.
fn check(shape: &ConvShape) -> Result<(), PlanError> {
    if !shape.is_sound() {
        return Err(PlanError::Shape);
    }
    // Which taps hit the input is kept as one bit per tap and axis.
    if shape.kernel.iter().sum::<usize>() > 31 {
        return Err(PlanError::Kernel(shape.kernel));
    }
    Ok(())
}

/// The order of a partial sum's elements.
#[derive(Clone, Copy)]
struct PartOrder {
    /// For each row all taps, and for each of them this many channels; in the result taps come last.
    channels: usize,
    taps: usize,
}

impl PartOrder {
    /// The order of the result.
    const AS_IT_IS: Self = Self { channels: 1, taps: 1 };
}

/// A launch that adds up `parts` arrays of `total` elements each, lying one after the other, to
/// operand 2 as it is stored; half precision leaves the order as it is.
fn sum_parts(
    from: Slot,
    total: usize,
    parts: usize,
    order: PartOrder,
    stored: Storage,
    limits: &DeviceLimits,
) -> Result<Launch<ConvKernel>, PlanError> {
    let buffers = vec![from, Slot::Operand(2)];
    if stored.is_half() {
        debug_assert_eq!([order.channels, order.taps], [1; 2], "activations have one order");
        let groups = plan::fold(total.div_ceil(4 * SMALL_GROUP as usize), 1, limits)?;
        let params = SumHalfParams { total: total as u32, parts: parts as u32 };
        return Ok(Launch::new(ConvKernel::SumHalf(stored), groups, buffers, &params));
    }
    let groups = plan::fold(total.div_ceil(SMALL_GROUP as usize), 1, limits)?;
    let params = SumParams {
        total: total as u32,
        parts: parts as u32,
        channels: order.channels as u32,
        taps: order.taps as u32,
    };
    Ok(Launch::new(ConvKernel::SumParts, groups, buffers, &params))
}

/// Into how many parts a long sum of `phases` times `tiles` workgroups is split. A device should
/// have `wanted` workgroups, each with at least `least` of the `steps`; the parts of `bytes` each
/// must fit into a scratch buffer.
fn splits(
    [tiles, phases]: [usize; 2],
    wanted: usize,
    [steps, least]: [usize; 2],
    bytes: usize,
    limits: &DeviceLimits,
) -> usize {
    let scratch = limits.max_binding_bytes.min(64 << 20);
    let most = limits.max_workgroups_per_dim as usize / phases.max(1);
    let useful = wanted.div_ceil((tiles * phases).max(1));
    useful.min(steps / least).min(scratch / bytes.max(1)).min(most).max(1)
}

/// Name and source of every variant of every shader.
pub(crate) fn shader_texts() -> Vec<(String, String)> {
    let text = |kernel: ConvKernel| (format!("{}, {kernel:?}", kernel.file()), kernel.source());
    ConvKernel::variants().into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Vendor;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = ConvShape {
            batch: 1,
            in_channels: 4,
            out_channels: 8,
            input: [4, 512, 512],
            kernel: [1, 3, 3],
            stride: [1; 3],
            padding: [0, 1, 1],
        };
        let limit = 16 << 20;
        let limits = DeviceLimits { max_binding_bytes: limit, ..DeviceLimits::WEBGPU };
        let need = shape.output_len() * 4;
        for pass in ConvPass::ALL {
            assert_eq!(
                plan(pass, &shape, Storage::F32, &limits),
                Err(PlanError::TooLarge { need, limit })
            );
            assert!(plan(pass, &shape, Storage::F32, &DeviceLimits::WEBGPU).is_ok());
        }
        // Too small for the margins that the kernels in registers need: tiles serve.
        let software = DeviceLimits {
            software: true,
            subgroup: [8, 8],
            subgroup_operations: true,
            ..DeviceLimits::WEBGPU
        };
        let uses_tiles = |plan: &ConvPlan| {
            let mut kernels = plan.launches.iter().map(|launch| launch.kernel);
            kernels.any(|kernel| matches!(kernel, ConvKernel::Gather { .. }))
        };
        let same = ConvShape { in_channels: 8, ..shape };
        assert!(!uses_tiles(&plan(ConvPass::Forward, &same, Storage::F32, &software).unwrap()));
        let tight = DeviceLimits { max_binding_bytes: need, ..software };
        assert!(uses_tiles(&plan(ConvPass::Forward, &same, Storage::F32, &tight).unwrap()));
        let large = ConvShape { kernel: [9, 20, 20], padding: [9; 3], ..shape };
        let refused = plan(ConvPass::Forward, &large, Storage::F32, &DeviceLimits::WEBGPU);
        assert_eq!(refused, Err(PlanError::Kernel([9, 20, 20])));
    }

    #[test]
    fn tuning_offers_what_a_device_can_run() {
        for pass in ConvPass::ALL {
            let many = Vendor::ALL.map(|vendor| {
                let limits = DeviceLimits { vendor, ..DeviceLimits::WEBGPU };
                let few = variants(pass, Storage::F32, &limits).len();
                let more = DeviceLimits { workgroup_memory: 48 << 10, ..limits };
                let many = variants(pass, Storage::F32, &more);
                assert!(few >= 6 && many.len() >= few, "{pass:?}, {vendor:?}: {few}");
                many
            });
            let many = many.concat();
            let tiny = DeviceLimits { max_invocations: 32, ..DeviceLimits::WEBGPU };
            assert!(variants(pass, Storage::F32, &tiny).is_empty());
            let software = DeviceLimits {
                software: true,
                subgroup: [8, 8],
                subgroup_operations: true,
                ..DeviceLimits::WEBGPU
            };
            let software = variants(pass, Storage::F32, &software);
            assert!(software.len() >= 3 && software.iter().all(|variant| !many.contains(variant)));
        }
    }
}
