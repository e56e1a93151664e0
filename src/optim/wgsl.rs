//! Plans for what an optimizer does to one parameter, in one launch each.

use super::Step;
use crate::kernels::plan::{
    self, DeviceLimits, PlanError, Shader, Slot, element_values, fill, fits, fold,
};

/// A step's launches.
pub type Plan = plan::Plan<Kernel>;
/// One of them.
pub type Launch = plan::Launch<Kernel>;

/// Which shader, in which variant. `wide` ones take four elements at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the shaders say what they do")]
pub enum Kernel {
    AdamW { wide: bool },
    SumSquares { wide: bool },
}

impl Kernel {
    /// Every variant. For validation without a device.
    pub fn variants() -> Vec<Self> {
        let both = [false, true];
        let adamw = both.map(|wide| Self::AdamW { wide });
        adamw.into_iter().chain(both.map(|wide| Self::SumSquares { wide })).collect()
    }
}

impl Shader for Kernel {
    fn file(&self) -> &'static str {
        match self {
            Self::AdamW { .. } => "adamw.wgsl",
            Self::SumSquares { .. } => "sum_squares.wgsl",
        }
    }

    fn source(&self) -> String {
        match *self {
            Self::AdamW { wide } => {
                fill(include_str!("../../shaders/adamw.wgsl"), &element_values(wide))
            }
            Self::SumSquares { wide } => {
                fill(include_str!("../../shaders/sum_squares.wgsl"), &element_values(wide))
            }
        }
    }
}

const THREADS: usize = 256;

/// A step. Operands, `len` elements each: 0 parameter, 1 gradient, 2 first and 3 second moment;
/// written: 4 parameter, 5 first and 6 second moment. A written one may be the buffer that is
/// read if nobody else reads that: each element is read before it is written, by the same
/// invocation.
pub fn step(step: &Step, len: usize, limits: &DeviceLimits) -> Result<Plan, PlanError> {
    let (wide, elements) = elements(len, limits)?;
    let scalars = [
        step.scale,
        step.l2,
        step.beta1,
        1.0 - step.beta1,
        step.beta2,
        1.0 - step.beta2,
        1.0 - step.rate * step.decay,
        step.rate / step.correction(step.beta1),
        1.0 / step.correction(step.beta2).sqrt(),
        step.epsilon,
    ];
    let mut plan = Plan::new();
    plan.launches.push(Launch {
        kernel: Kernel::AdamW { wide },
        workgroup_size: [THREADS as u32, 1, 1],
        groups: fold(elements.div_ceil(THREADS), 1, limits)?,
        buffers: (0..7).map(Slot::Operand).collect(),
        params: std::iter::once(elements as u32)
            .chain(scalars.map(|value| (value as f32).to_bits()))
            .collect(),
    });
    Ok(plan)
}

/// How many partial sums [`sum_squares`] writes for `len` elements.
pub fn sum_squares_parts(len: usize) -> usize {
    let elements = if len.is_multiple_of(4) { len / 4 } else { len };
    elements.div_ceil(CHUNK).max(1)
}

/// Elements of a chunk.
const CHUNK: usize = THREADS * 16;

/// Σ x² of `len` elements as partial sums, which the caller adds up. Operands: 0 `x`; written: 1,
/// elements `first` to `first` + [`sum_squares_parts`], the others stay. So the sums of many
/// buffers gather in one, and come to the host in one piece.
pub fn sum_squares(len: usize, first: usize, limits: &DeviceLimits) -> Result<Plan, PlanError> {
    let (wide, elements) = elements(len, limits)?;
    let parts = sum_squares_parts(len);
    fits(first + parts, limits)?;
    let mut plan = Plan::new();
    plan.launches.push(Launch {
        kernel: Kernel::SumSquares { wide },
        workgroup_size: [THREADS as u32, 1, 1],
        groups: fold(parts, 1, limits)?,
        buffers: vec![Slot::Operand(0), Slot::Operand(1)],
        params: [elements, CHUNK, parts, first].map(|value| value as u32).to_vec(),
    });
    Ok(plan)
}

/// Whether four values make an element, and how many elements there are.
fn elements(len: usize, limits: &DeviceLimits) -> Result<(bool, usize), PlanError> {
    fits(len, limits)?;
    if limits.max_invocations < THREADS as u32 {
        return Err(PlanError::Device);
    }
    let wide = len.is_multiple_of(4);
    Ok((wide, if wide { len / 4 } else { len }))
}

/// Every variant of every shader with its name, as it reaches the driver. For validation without a
/// device.
pub fn shader_variants() -> Vec<(String, String)> {
    plan::texts(Kernel::variants())
}
