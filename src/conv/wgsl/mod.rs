//! 3D convolution on a device that runs WGSL: forward, input gradient, weight gradient.
//!
//! All three are matrix products whose operands are gathered while they are loaded; nothing is
//! unrolled in memory but the weights, which are packed into the order of the product. There are
//! two families of kernels: `gather` and `weight` work in tiles in workgroup memory, as GPUs like
//! it; `soft` works in registers alone, for devices that emulate a GPU.
//!
//! The same operands give the same bits in every run on a device; nothing is atomic.

mod choice;
mod gather;
mod kernel;
mod soft;
mod source;
mod tile;
mod weight;

pub use choice::{Choice, choices};
pub use kernel::Kernel;
pub use tile::{SoftTile, Tile};

use serde::{Deserialize, Serialize};

use super::ConvShape;
use crate::kernels::plan::{self, DeviceLimits, PlanError};

/// Which of the three.
///
/// | pass | operand 0 | operand 1 | operand 2, written |
/// |---|---|---|---|
/// | `Forward` | `x` | `w` | `y` |
/// | `InputGradient` | `dy` | `w` | `dx` |
/// | `WeightGradient` | `x` | `dy` | `dw` |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pass {
    /// `y` from `x` and `w`.
    Forward,
    /// `dx` from `dy` and `w`.
    InputGradient,
    /// `dw` from `x` and `dy`.
    WeightGradient,
}

/// A convolution's launches.
pub type Plan = plan::Plan<Kernel>;
/// One of them.
pub type Launch = plan::Launch<Kernel>;

/// How to compute `pass` on a device, the way that its limits suggest. Every element of the last
/// operand is written.
pub fn plan(pass: Pass, shape: &ConvShape, limits: &DeviceLimits) -> Result<Plan, PlanError> {
    plan_as(pass, shape, limits, None)
}

/// The same the way that `choice` says, one of the [`choices`].
pub fn plan_as(
    pass: Pass,
    shape: &ConvShape,
    limits: &DeviceLimits,
    choice: Option<Choice>,
) -> Result<Plan, PlanError> {
    check(shape)?;
    for words in [shape.input_len(), shape.weight_len(), shape.output_len()] {
        plan::fits(words, limits)?;
    }
    let product = || match pass {
        Pass::InputGradient => gather::Product::input_gradient(shape),
        _ => gather::Product::forward(shape),
    };
    if limits.software {
        let way = choice.and_then(Choice::registers);
        let plan = match pass {
            Pass::WeightGradient => soft::weight(shape, limits, way.map(|(tile, _)| tile)),
            _ => soft::gather(&product(), limits, way),
        };
        // Those kernels copy their operands, with margins; the ones below do not.
        if !matches!(plan, Err(PlanError::TooLarge { .. })) {
            return plan;
        }
    }
    let way = choice.and_then(Choice::tiles);
    match pass {
        Pass::WeightGradient => weight::plan(shape, limits, way),
        _ => gather::plan(&product(), limits, way),
    }
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

/// A launch that adds up `parts` arrays of `total` elements each, lying one after the other.
fn sum_parts(
    from: plan::Slot,
    to: plan::Slot,
    total: usize,
    parts: usize,
    limits: &DeviceLimits,
) -> Result<Launch, PlanError> {
    Ok(Launch {
        kernel: Kernel::SumParts,
        workgroup_size: [64, 1, 1],
        groups: plan::fold(total.div_ceil(64), 1, limits)?,
        buffers: vec![from, to],
        params: vec![total as u32, parts as u32],
    })
}

/// Into how many parts a long reduction is cut, of `phases` times `tiles` workgroups each. A device
/// should have `wanted` workgroups, each with at least `least` of the `steps`; the parts of `bytes`
/// each must fit into a scratch buffer.
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

/// Every variant of every shader with its name, as it reaches the driver. For validation without a
/// device.
pub fn shader_variants() -> Vec<(String, String)> {
    // Without subgroup operations, and with every size of subgroup that they are made for.
    [0, 4, 8, 16].into_iter().flat_map(|lanes| plan::texts(Kernel::variants(lanes))).collect()
}
