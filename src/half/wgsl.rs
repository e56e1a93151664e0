//! Plans for conversions between f32 and f16, and for sums of gradients in f16.

use crate::kernels::layout::{Layout, Record, wgsl_struct};
use crate::kernels::plan::{self, DeviceLimits, Launch, PlanError, Shader, Slot, fill, fits, fold};
use crate::kernels::storage::Storage;

/// Launch of a conversion or a sum.
pub(crate) type CastPlan = plan::Plan<CastKernel>;

/// A conversion, with the form in which shaders access the f16 values, or a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CastKernel {
    /// f32 to f16.
    ToHalf(Storage),
    /// f16 to f32.
    ToFloat(Storage),
    /// The sum of two gradients in half precision.
    Add,
}

wgsl_struct! {
    struct CastParams as "Params" {
        values: u32,
    }
}

const THREADS: u32 = 64;

impl CastKernel {
    /// Returns every variant.
    pub(crate) fn variants() -> Vec<Self> {
        let mut variants = vec![Self::ToHalf(Storage::Gradient), Self::Add];
        variants.extend(Storage::HALVES.map(Self::ToHalf));
        variants.extend(Storage::HALVES.map(Self::ToFloat));
        variants
    }
}

impl Shader for CastKernel {
    fn file(&self) -> &'static str {
        match self {
            Self::ToHalf(_) => "to_half.wgsl",
            Self::ToFloat(_) => "to_float.wgsl",
            Self::Add => "half_add.wgsl",
        }
    }

    fn source(&self) -> String {
        match *self {
            Self::ToHalf(half) => {
                let values = [
                    ("stored", half.element(true).to_owned()),
                    ("store", half.store(&["y"])),
                    ("write", half.write("y", "at", "four")),
                ];
                half.directive().to_owned()
                    + &fill(include_str!("../../shaders/to_half.wgsl"), &values)
            }
            Self::ToFloat(half) => {
                let values = [
                    ("stored", half.element(true).to_owned()),
                    ("load", half.load("x", true)),
                    ("read", half.read("x", "at")),
                ];
                half.directive().to_owned()
                    + &fill(include_str!("../../shaders/to_float.wgsl"), &values)
            }
            Self::Add => {
                let stored = Storage::Gradient;
                let sum = ["a", "b"].map(|name| stored.read(name, "at")).join(" + ");
                let values = [
                    ("stored", stored.element(true).to_owned()),
                    ("load", stored.load("a", true) + &stored.load("b", true)),
                    ("store", stored.store(&["y"])),
                    ("sum", sum),
                    ("write", stored.write("y", "at", "sum")),
                ];
                fill(include_str!("../../shaders/half_add.wgsl"), &values)
            }
        }
    }

    fn workgroup_size(&self) -> u32 {
        THREADS
    }

    fn params(&self) -> &'static Layout {
        CastParams::LAYOUT
    }
}

/// Plans the conversion of `values` values from f32 to the form `half`. Operands: 0 `x`; 1 `y`,
/// written.
pub(crate) fn to_half(
    half: Storage,
    values: usize,
    limits: &DeviceLimits,
) -> Result<CastPlan, PlanError> {
    plan(CastKernel::ToHalf(half), values, limits)
}

/// Plans the conversion or sum of `values` values. Operands: 0 the tensor and, for a sum, 1 the
/// other one; the last operand is written.
pub(super) fn plan(
    kernel: CastKernel,
    values: usize,
    limits: &DeviceLimits,
) -> Result<CastPlan, PlanError> {
    fits(values, limits)?;
    let groups = fold(values.div_ceil(4 * THREADS as usize), 1, limits)?;
    // The sum has one more operand.
    let count = if kernel == CastKernel::Add { 3 } else { 2 };
    let buffers = (0..count).map(Slot::Operand).collect();
    let params = CastParams { values: values as u32 };
    Ok(CastPlan::single(Launch::new(kernel, groups, buffers, &params)))
}
