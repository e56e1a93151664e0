//! 3D convolution on a device that runs WGSL: forward, input gradient, weight gradient.
//!
//! All three are implicit matrix products whose operands are gathered while they are loaded. No
//! unrolled copy is made in memory; only the weights are packed, in the order in which the product
//! reads them. There are two families of kernels: `gather` and `weight` use tiles in workgroup
//! memory, for GPUs; `soft` only uses registers, for software rasterisers.
//!
//! Results are bitwise reproducible on a device: nothing uses atomics.

mod form;
mod gather;
mod kernel;
mod pack;
mod params;
mod product;
mod soft;
mod source;
mod tile;
mod units;
mod variant;
mod weight;
mod weight_plan;

pub(crate) use kernel::ConvKernel;
pub(crate) use tile::Tile;
pub(crate) use variant::{ConvVariant, variants};

use serde::{Deserialize, Serialize};

use super::ConvShape;
use crate::kernels::plan::{self, DeviceLimits, Launch, PlanError, Shader, Slot};
use crate::kernels::storage::Storage;
use kernel::{Epilogue, SMALL_GROUP};
use params::{SumHalfParams, SumParams};
use product::Product;

/// One of the three passes.
///
/// | pass | operand 0 | operand 1 | operand 2, written |
/// |---|---|---|---|
/// | `Forward` | `x` | `w` | `y` |
/// | `InputGradient` | `dy` | `w` | `dx` |
/// | `WeightGradient` | `x` | `dy` | `dw` |
///
/// `x` and `y` may be stored in half precision, in which case `dx` and `dy` are too; weights are
/// f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvPass {
    /// Computes `y` from `x` and `w`.
    Forward,
    /// Computes `dx` from `dy` and `w`.
    InputGradient,
    /// Computes `dw` from `x` and `dy`.
    WeightGradient,
}

impl ConvPass {
    /// All passes.
    pub const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];

    /// Returns how operand 0 is stored if activations are stored as `activations`.
    pub(crate) fn storage(self, activations: Storage) -> Storage {
        match self {
            Self::Forward | Self::WeightGradient => activations,
            Self::InputGradient => activations.gradient(),
        }
    }
}

/// The launches of a convolution.
pub(crate) type ConvPlan = plan::Plan<ConvKernel>;

/// Plans `pass` on a device, with activations stored as `stored`, in the default variant for its
/// limits. Every element of the last operand is written.
pub(crate) fn plan(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Result<ConvPlan, PlanError> {
    plan_as(pass, shape, stored, limits, None)
}

/// Like [`plan`], but in the given one of the [`variants`], if any.
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
        ConvPass::InputGradient => Product::input_gradient(shape),
        _ => Product::forward(shape),
    };
    // An explicit variant of another kind does not use matrix units.
    let by_units = variant.map_or(Some(None), |variant| variant.units().map(Some));
    if let (Some(units), Some(tiles)) = (units::serving(stored, limits), by_units) {
        let plan = match pass {
            ConvPass::WeightGradient => {
                weight_plan::plan(shape, limits, tiles, Some(units), stored)
            }
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
        // These kernels copy their operands, with margins; the tiled kernels below do not.
        if !matches!(plan, Err(PlanError::TooLarge { .. })) {
            return plan;
        }
    }
    let tiles = variant.and_then(ConvVariant::tiles);
    match pass {
        ConvPass::WeightGradient => weight_plan::plan(shape, limits, tiles, None, stored),
        _ => gather::plan(product(), limits, tiles, None, stored),
    }
}

/// The plan of a pass that also computes sums of its result, in parts, for a normalisation: see
/// [`with_parts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanWithParts {
    /// The launches; operand 3 is written with two numbers per part: `[channels, parts, 2]`.
    pub plan: ConvPlan,
    /// Number of values per part, counted over N, time and space; the last part may have fewer.
    pub slice: usize,
    /// Number of parts per channel.
    pub parts: usize,
}

/// Extends the `plan` of a pass with an epilogue that computes sums of its result for a
/// normalisation. Returns `None` unless the last launch computes complete sums in tiles: a split
/// sum is only complete after the launch that could compute the epilogue.
///
/// A forward pass computes the mean and the sum of squared deviations of y. An input gradient
/// computes Σ g and Σ g·(x' − mean) for the normalisation with ReLU that made x, where g is dx, or
/// 0 where the ReLU was inactive; operand 4 is that normalisation's input x', operand 5 the state
/// that its forward pass saved. Input gradients of strided windows are not supported: the columns
/// of their tiles are not adjacent in dx.
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

/// Returns the variants whose plans differ, with their plans.
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

/// Checks whether the kernels support these sizes.
fn check(shape: &ConvShape) -> Result<(), PlanError> {
    if !shape.is_sound() {
        return Err(PlanError::Shape);
    }
    // A mask with one bit per tap and axis says which taps fall into the input.
    if shape.kernel.iter().sum::<usize>() > 31 {
        return Err(PlanError::Kernel(shape.kernel));
    }
    Ok(())
}

/// The element order of a partial sum.
#[derive(Clone, Copy)]
struct PartOrder {
    /// Channels per tap. Partial sums are ordered by row, tap, channel; the result by row, channel,
    /// tap.
    channels: usize,
    /// Taps per row.
    taps: usize,
}

impl PartOrder {
    /// The same order as the result.
    const UNCHANGED: Self = Self { channels: 1, taps: 1 };
}

/// Makes the launch that adds up `parts` consecutive arrays of `total` elements each into operand
/// 2, which is stored as `stored`. In half precision only [`PartOrder::UNCHANGED`] is supported.
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
        debug_assert_eq!(
            [order.channels, order.taps],
            [1; 2],
            "partial sums of activations are in the order of the result"
        );
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

/// The parts that the sums of a pass are split into.
#[derive(Clone, Copy)]
struct Parts {
    count: usize,
    /// Steps of each part; the last one may have fewer.
    steps: usize,
}

/// Splits the sums of `phases` × `tiles` workgroups so that there are about `wanted` workgroups,
/// each with at least `min_steps` of the `steps`. The parts, of `bytes` each, must fit into a
/// scratch buffer.
fn split(
    [tiles, phases]: [usize; 2],
    wanted: usize,
    [steps, min_steps]: [usize; 2],
    bytes: usize,
    limits: &DeviceLimits,
) -> Parts {
    let scratch = limits.max_binding_bytes.min(64 << 20);
    let most = limits.max_workgroups_per_dim as usize / phases.max(1);
    let useful = wanted.div_ceil((tiles * phases).max(1));
    let count = useful.min(steps / min_steps).min(scratch / bytes.max(1)).min(most).max(1);
    let part_steps = steps.div_ceil(count).max(1);
    Parts { count: steps.div_ceil(part_steps).max(1), steps: part_steps }
}

/// Returns the name and the source of every variant of every shader.
pub(crate) fn shader_texts() -> Vec<(String, String)> {
    let text = |kernel: ConvKernel| (format!("{}, {kernel:?}", kernel.file()), kernel.source());
    ConvKernel::variants().into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Vendor;

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
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
        // Too small for the margins that the register kernels need, so that tiles are used.
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
