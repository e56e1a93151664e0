//! Plans for the optimizer's steps and the gradients' norm. A network has a hundred parameters,
//! most of them small: one launch takes as many as the device can bind.

use polyview_cpu::adam::Factors;

use crate::kernels::layout::{Element, Layout, Record, array_words, wgsl_struct};
use crate::kernels::plan::{
    self, DeviceLimits, Launch, PlanError, Shader, Slot, element_values, fill, fits, fold,
};

/// Launches of an optimizer operation.
pub(crate) type OptimPlan = plan::Plan<OptimKernel>;

/// A shader in one variant. Those that are `wide` process four elements at a time; `slots` is the
/// number of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OptimKernel {
    /// Optimizer steps.
    AdamW(StepVariant),
    /// Partial sums of x².
    SumSquares { wide: bool, slots: u32 },
}

/// A variant of the optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StepVariant {
    pub(super) wide: bool,
    /// Whether new values overwrite the old ones.
    pub(super) in_place: bool,
    pub(super) slots: u32,
}

wgsl_struct! {
    /// [`Factors`] and the number of elements.
    struct StepSlot as "Slot" {
        elements: u32,
        first_group: u32,
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
    struct StepParams as "Params" {
        count: u32,
    }
    then slots: [Element::Struct(StepSlot::LAYOUT)]
}

wgsl_struct! {
    struct SumSlot as "Slot" {
        elements: u32,
        first_chunk: u32,
    }
}

wgsl_struct! {
    struct SumSquaresParams as "Params" {
        chunk: u32,
        chunks: u32,
        first: u32,
    }
    then slots: [Element::Struct(SumSlot::LAYOUT)]
}

impl Shader for OptimKernel {
    fn file(&self) -> &'static str {
        match self {
            Self::AdamW(_) => "adamw.wgsl",
            Self::SumSquares { .. } => "sum_squares.wgsl",
        }
    }

    fn source(&self) -> String {
        match *self {
            Self::AdamW(variant) => step_source(variant),
            Self::SumSquares { wide, slots } => sum_squares_source(wide, slots),
        }
    }

    fn workgroup_size(&self) -> u32 {
        THREADS as u32
    }

    fn params(&self) -> &'static Layout {
        match self {
            Self::AdamW(_) => StepParams::LAYOUT,
            Self::SumSquares { .. } => SumSquaresParams::LAYOUT,
        }
    }

    fn records(&self) -> &'static [&'static Layout] {
        match self {
            Self::AdamW(_) => &[StepSlot::LAYOUT],
            Self::SumSquares { .. } => &[SumSlot::LAYOUT],
        }
    }
}

impl OptimKernel {
    /// Returns variants of few and of many slots.
    pub(crate) fn variants() -> Vec<Self> {
        let mut variants = Vec::new();
        for wide in [false, true] {
            for slots in [1, 2, MAX_STEPS as u32] {
                for in_place in [false, true] {
                    variants.push(Self::AdamW(StepVariant { wide, in_place, slots }));
                }
            }
            variants.extend([1, 2, MAX_SUMS as u32].map(|slots| Self::SumSquares { wide, slots }));
        }
        variants
    }
}

/// A slot's buffers in the order of the bindings; those with old values first.
const STATE: [&str; 4] = ["parameter", "gradient", "first", "second"];
const NEW_STATE: [&str; 3] = ["parameter_out", "first_out", "second_out"];

fn binding(number: usize, name: &str, slot: u32) -> String {
    format!(
        "@group(0) @binding({number}) var<storage, read_write> {name}_{slot}: array<Element>;\n"
    )
}

fn step_source(StepVariant { wide, in_place, slots }: StepVariant) -> String {
    let names = match in_place {
        true => STATE.to_vec(),
        false => [&STATE[..], &NEW_STATE[..]].concat(),
    };
    let out = if in_place { "" } else { "_out" };
    let each = (0..slots).flat_map(|slot| names.iter().map(move |name| (slot, name)));
    let bindings: String =
        each.enumerate().map(|(number, (slot, name))| binding(number, name, slot)).collect();
    let case = |slot: u32| {
        format!(
            "case {slot}u: {{
                let old = State(parameter_{slot}[at], first_{slot}[at], second_{slot}[at]);
                let next = updated(old, gradient_{slot}[at], slot);
                parameter{out}_{slot}[at] = next.parameter;
                first{out}_{slot}[at] = next.first;
                second{out}_{slot}[at] = next.second;
            }}\n"
        )
    };
    let mut values = element_values(wide);
    values.extend([
        ("bindings", bindings),
        ("cases", (0..slots).map(case).collect()),
        ("params", (slots as usize * names.len()).to_string()),
    ]);
    fill(include_str!("../../shaders/adamw.wgsl"), &values)
}

fn sum_squares_source(wide: bool, slots: u32) -> String {
    let bindings: String = (0..slots).map(|slot| binding(slot as usize, "x", slot)).collect();
    let case = |slot: u32| {
        format!(
            "case {slot}u: {{
                for (var at = start + local; at < end; at += THREADS) {{
                    squares += x_{slot}[at] * x_{slot}[at];
                }}
            }}\n"
        )
    };
    let mut values = element_values(wide);
    values.extend([
        ("slots", slots.to_string()),
        ("bindings", bindings),
        ("cases", (0..slots).map(case).collect()),
        ("sums", slots.to_string()),
        ("params", (slots + 1).to_string()),
    ]);
    fill(include_str!("../../shaders/sum_squares.wgsl"), &values)
}

const THREADS: usize = 256;
/// Maximum number of parameters per launch: more of them would save little.
const MAX_STEPS: usize = 16;
/// Maximum number of tensors per launch of sums.
const MAX_SUMS: usize = 30;

/// Whether [`steps`] can plan a parameter of `len` elements.
pub(super) fn fits_step(len: usize, limits: &DeviceLimits) -> bool {
    elements(len, limits).is_ok_and(|(_, elements)| step_groups(elements, limits).is_ok())
}

fn step_groups(elements: usize, limits: &DeviceLimits) -> Result<[u32; 3], PlanError> {
    fold(elements.div_ceil(THREADS), 1, limits)
}

/// Whether a parameter is so large that it has a launch of its own: one that fills a GPU gains
/// nothing from sharing, and on a software rasteriser, which executes every case of a `switch`,
/// each parameter of a launch costs as much as all of them.
pub(super) fn steps_alone(len: usize, limits: &DeviceLimits) -> bool {
    len >= if limits.software { 1 << 14 } else { 1 << 20 }
}

/// Returns how many parameters one launch can update on a device.
pub(super) fn max_steps(in_place: bool, limits: &DeviceLimits) -> usize {
    let each = STATE.len() + if in_place { 0 } else { NEW_STATE.len() };
    // The launch's own parameters have a binding, too.
    ((limits.bindings as usize).saturating_sub(1) / each).clamp(1, MAX_STEPS)
}

/// Plans steps of at most [`max_steps`] parameters whose lengths satisfy [`fits_step`], given the
/// coefficients and the length of each. Operands, for each in turn: parameter, gradient, first and
/// second moment; then, unless `in_place`, those that are written: parameter, first and second
/// moment.
pub(super) fn steps(
    each: &[(Factors, usize)],
    in_place: bool,
    limits: &DeviceLimits,
) -> Result<OptimPlan, PlanError> {
    let wide = each.iter().all(|(_, len)| len.is_multiple_of(4));
    let mut groups = 0;
    let slots = each.iter().map(|&(factors, len)| {
        let elements = if wide { len / 4 } else { len };
        let first_group = groups;
        groups += elements.div_ceil(THREADS);
        let Factors {
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
            ..
        } = factors;
        StepSlot {
            elements: elements as u32,
            first_group: first_group as u32,
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
        }
    });
    let words = array_words(slots);
    let variant = StepVariant { wide, in_place, slots: each.len() as u32 };
    let buffers = STATE.len() + if in_place { 0 } else { NEW_STATE.len() };
    let launch = Launch::new(
        OptimKernel::AdamW(variant),
        fold(groups, 1, limits)?,
        (0..each.len() * buffers).map(Slot::Operand).collect(),
        &StepParams { count: each.len() as u32 },
    );
    Ok(OptimPlan::single(launch.with_tail(words)))
}

/// Returns how many partial sums [`sum_squares`] writes for `len` values.
fn sum_squares_parts(len: usize, wide: bool) -> usize {
    let elements = if wide { len / 4 } else { len };
    elements.div_ceil(CHUNK).max(1)
}

/// Number of elements per chunk.
const CHUNK: usize = THREADS * 16;

/// Plans Σ x² of tensors of these lengths as partial sums, which the caller adds up; also returns
/// the number of sums. Operands: the tensors in order; written: the sums.
pub(super) fn sum_squares(
    lens: &[usize],
    limits: &DeviceLimits,
) -> Result<(OptimPlan, usize), PlanError> {
    for &len in lens {
        elements(len, limits)?;
    }
    let most = (limits.bindings as usize).saturating_sub(2).clamp(1, MAX_SUMS);
    let (mut plan, mut first) = (OptimPlan::new(), 0);
    for wide in [true, false] {
        let is_wide = |&index: &usize| lens[index].is_multiple_of(4) == wide;
        let indices: Vec<usize> = (0..lens.len()).filter(is_wide).collect();
        for slots in indices.chunks(most) {
            let mut chunks = 0;
            let table = slots.iter().map(|&index| {
                let first_chunk = chunks as u32;
                chunks += sum_squares_parts(lens[index], wide);
                let elements = if wide { lens[index] / 4 } else { lens[index] };
                SumSlot { elements: elements as u32, first_chunk }
            });
            let table = array_words(table);
            let params = SumSquaresParams {
                chunk: CHUNK as u32,
                chunks: chunks as u32,
                first: first as u32,
            };
            let operands = slots.iter().copied().chain([lens.len()]).map(Slot::Operand);
            let launch = Launch::new(
                OptimKernel::SumSquares { wide, slots: slots.len() as u32 },
                fold(chunks, 1, limits)?,
                operands.collect(),
                &params,
            );
            plan.launches.push(launch.with_tail(table));
            first += chunks;
        }
    }
    fits(first, limits)?;
    Ok((plan, first))
}

/// Returns whether an element consists of four values, and the number of elements.
fn elements(len: usize, limits: &DeviceLimits) -> Result<(bool, usize), PlanError> {
    fits(len, limits)?;
    if limits.max_invocations < THREADS as u32 {
        return Err(PlanError::Device);
    }
    let wide = len.is_multiple_of(4);
    Ok((wide, if wide { len / 4 } else { len }))
}
