//! Which variant of a pass is the fastest on a device, by timing all of them.

use std::time::Instant;

use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{Device, Distribution, ExecutionError, Tensor};

use super::wgsl::{self, ConvPass, ConvPlan, ConvVariant};
use super::{ConvShape, op};
use crate::device::MemoryWatch;
use crate::kernels::limits;
use crate::timing::{median, milliseconds};

/// The outcome of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    /// The fastest variant.
    pub choice: ConvVariant,
    /// Its time, milliseconds.
    pub ms: f64,
    /// The time of the variant that the device's limits suggest.
    pub usual_ms: f64,
}

/// Timed rounds, in each of which every variant has one turn; the median decides.
const ROUNDS: usize = 3;
/// A variant that at first takes this many times as long as the fastest is not timed again.
const HOPELESS: f64 = 1.5;
/// Share of the default variant's time that another one must stay below to replace it.
const WORTH: f64 = 0.97;
/// A measurement lasts at least this long, milliseconds, to amortise launching and waiting.
const LONG_ENOUGH: f64 = 3.0;
/// Launches of a measurement at most.
const MOST: f64 = 64.0;

/// Times the variants in which `device` can compute a pass; `None` where there is no choice.
///
/// # Errors
/// If the device fails.
pub(crate) fn fastest(
    device: &Device,
    pass: ConvPass,
    shape: &ConvShape,
) -> Result<Option<Trial>, ExecutionError> {
    let device = device.clone().without_autodiff();
    let Some(limits) = limits(&device) else { return Ok(None) };
    let Ok(usual) = wgsl::plan(pass, shape, &limits) else { return Ok(None) };
    let plans = wgsl::distinct_plans(pass, shape, &limits);
    if plans.len() < 2 {
        return Ok(None);
    }
    let candidate =
        |(variant, plan)| Candidate { variant, is_usual: plan == usual, plan, ms: Vec::new() };
    let mut candidates: Vec<Candidate> = plans.into_iter().map(candidate).collect();
    let random = |size: [usize; 5]| {
        let tensor = Tensor::<5>::random(size, Distribution::Uniform(-1.0, 1.0), &device);
        let tensor = tensor.try_into_primitive::<CubeBackend>();
        tensor.expect("a device with limits is one of CubeCL's")
    };
    let operands = match pass {
        ConvPass::Forward => [random(shape.x()), random(shape.w())],
        ConvPass::InputGradient => [random(shape.y()), random(shape.w())],
        ConvPass::WeightGradient => [random(shape.x()), random(shape.y())],
    };
    let time = |candidate: &Candidate, launches: usize| -> Result<f64, ExecutionError> {
        device.sync()?;
        let start = Instant::now();
        for _ in 0..launches {
            queue(pass, shape, &candidate.plan, &operands);
        }
        device.sync()?;
        Ok(milliseconds(start) / launches as f64)
    };
    let mut watch = MemoryWatch::start(&device);
    let mut best = f64::INFINITY;
    for candidate in &mut candidates {
        // The first launch compiles.
        time(candidate, 1)?;
        candidate.ms.push(time(candidate, 1)?);
        best = best.min(candidate.ms[0]);
    }
    candidates.retain(|candidate| candidate.is_usual || candidate.ms[0] <= best * HOPELESS);
    let launches = (LONG_ENOUGH / best).ceil().clamp(1.0, MOST) as usize;
    candidates.iter_mut().for_each(|candidate| candidate.ms.clear());
    for _ in 0..ROUNDS {
        for candidate in &mut candidates {
            candidate.ms.push(time(candidate, launches)?);
        }
    }
    if watch.out_of_memory() {
        watch.recover();
        return Ok(None);
    }
    Ok(decide(candidates))
}

/// A variant and its times.
struct Candidate {
    variant: ConvVariant,
    /// Whether it is what the device's limits suggest.
    is_usual: bool,
    plan: ConvPlan,
    ms: Vec<f64>,
}

fn queue(pass: ConvPass, shape: &ConvShape, plan: &ConvPlan, operands: &[CubeTensor; 2]) {
    drop(op::run(pass, shape, plan, operands.clone()));
}

/// The fastest variant if it is clearly faster than the usual one, else that. `None` where the
/// usual one is not among them.
fn decide(candidates: Vec<Candidate>) -> Option<Trial> {
    let timed =
        |candidate: Candidate| (candidate.is_usual, candidate.variant, median(candidate.ms));
    let timed: Vec<_> = candidates.into_iter().map(timed).collect();
    let &(_, usual, usual_ms) = timed.iter().find(|(is_usual, ..)| *is_usual)?;
    let &(_, choice, ms) = timed.iter().min_by(|a, b| a.2.total_cmp(&b.2))?;
    Some(match ms <= usual_ms * WORTH {
        true => Trial { choice, ms, usual_ms },
        false => Trial { choice: usual, ms: usual_ms, usual_ms },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::DeviceLimits;

    #[test]
    fn a_variant_must_be_clearly_faster_than_the_usual_one() {
        let variants = wgsl::variants(ConvPass::Forward, &DeviceLimits::WEBGPU);
        let candidate = |index: usize, is_usual, ms: [f64; 3]| Candidate {
            variant: variants[index],
            is_usual,
            plan: ConvPlan::new(),
            ms: ms.to_vec(),
        };
        // A single slow round decides nothing.
        let clear = vec![
            candidate(0, false, [1.0, 9.0, 1.1]),
            candidate(1, true, [1.2, 1.2, 0.1]),
            candidate(2, false, [1.3, 1.3, 1.3]),
        ];
        let trial = Trial { choice: variants[0], ms: 1.1, usual_ms: 1.2 };
        assert_eq!(decide(clear), Some(trial));
        let close = vec![candidate(0, false, [1.18; 3]), candidate(1, true, [1.2; 3])];
        let trial = Trial { choice: variants[1], ms: 1.2, usual_ms: 1.2 };
        assert_eq!(decide(close), Some(trial));
    }
}
