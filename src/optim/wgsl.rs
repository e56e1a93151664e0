//! Plans for the optimizer's step and the gradients' norm, one launch per parameter.

use polyview_cpu::adam::Factors;

use crate::kernels::layout::{Layout, Record, wgsl_struct};
use crate::kernels::plan::{
    self, DeviceLimits, Launch, PlanError, Shader, Slot, element_values, fill, fits, fold,
};

/// An optimizer operation's launches.
pub(crate) type OptimPlan = plan::Plan<OptimKernel>;

/// Which shader, in which variant. `wide` ones take four elements at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OptimKernel {
    /// The step.
    AdamW { wide: bool },
    /// Partial sums of x².
    SumSquares { wide: bool },
}

wgsl_struct! {
    /// [`Factors`] and the number of elements.
    struct AdamWParams as "Params" {
        elements: u32,
        keep: f32,
        l2: f32,
        beta1: f32,
        gain1: f32,
        beta2: f32,
        gain2: f32,
        size: f32,
        inverse_root: f32,
        epsilon: f32,
        scale: f32,
    }
}

wgsl_struct! {
    struct SumSquaresParams as "Params" {
        elements: u32,
        chunk: u32,
        chunks: u32,
        first: u32,
    }
}

impl Shader for OptimKernel {
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

    fn workgroup_size(&self) -> u32 {
        THREADS as u32
    }

    fn params(&self) -> &'static Layout {
        match self {
            Self::AdamW { .. } => AdamWParams::LAYOUT,
            Self::SumSquares { .. } => SumSquaresParams::LAYOUT,
        }
    }
}

#[cfg(test)]
impl OptimKernel {
    /// Every variant.
    pub(crate) fn variants() -> Vec<Self> {
        let both = [false, true];
        let adamw = both.map(|wide| Self::AdamW { wide });
        [adamw, both.map(|wide| Self::SumSquares { wide })].concat()
    }
}

const THREADS: usize = 256;

/// Whether [`step`] can plan a parameter of `len` elements.
pub(super) fn fits_step(len: usize, limits: &DeviceLimits) -> bool {
    elements(len, limits).is_ok_and(|(_, elements)| step_groups(elements, limits).is_ok())
}

fn step_groups(elements: usize, limits: &DeviceLimits) -> Result<[u32; 3], PlanError> {
    fold(elements.div_ceil(THREADS), 1, limits)
}

/// A step. Operands, `len` elements each: 0 parameter, 1 gradient, 2 first and 3 second moment;
/// written: 4 parameter, 5 first and 6 second moment. A written one may be the buffer that is
/// read if nobody else reads that: each element is read before it is written, by the same
/// invocation.
pub(super) fn step(
    factors: Factors,
    len: usize,
    limits: &DeviceLimits,
) -> Result<OptimPlan, PlanError> {
    let (wide, elements) = elements(len, limits)?;
    let Factors {
        keep, l2, beta1, gain1, beta2, gain2, size, inverse_root, epsilon, scale, ..
    } = factors;
    let params = AdamWParams {
        elements: elements as u32,
        keep,
        l2,
        beta1,
        gain1,
        beta2,
        gain2,
        size,
        inverse_root,
        epsilon,
        scale,
    };
    Ok(OptimPlan::single(Launch::new(
        OptimKernel::AdamW { wide },
        step_groups(elements, limits)?,
        (0..7).map(Slot::Operand).collect(),
        &params,
    )))
}

/// How many partial sums [`sum_squares`] writes for `len` elements.
pub(super) fn sum_squares_parts(len: usize) -> usize {
    let elements = if len.is_multiple_of(4) { len / 4 } else { len };
    elements.div_ceil(CHUNK).max(1)
}

/// Elements of a chunk.
const CHUNK: usize = THREADS * 16;

/// Σ x² of `len` elements as partial sums, which the caller adds up. Operands: 0 `x`; written: 1,
/// elements `first` to `first` + [`sum_squares_parts`], the others are left as they are. So one
/// buffer collects the sums of many tensors and is read back once.
pub(super) fn sum_squares(
    len: usize,
    first: usize,
    limits: &DeviceLimits,
) -> Result<OptimPlan, PlanError> {
    let (wide, elements) = elements(len, limits)?;
    let chunks = sum_squares_parts(len);
    fits(first + chunks, limits)?;
    let params = SumSquaresParams {
        elements: elements as u32,
        chunk: CHUNK as u32,
        chunks: chunks as u32,
        first: first as u32,
    };
    Ok(OptimPlan::single(Launch::new(
        OptimKernel::SumSquares { wide },
        fold(chunks, 1, limits)?,
        vec![Slot::Operand(0), Slot::Operand(1)],
        &params,
    )))
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
