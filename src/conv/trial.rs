//! Which variant of a pass is the fastest on a device, by timing them. A pass may take a fixed time, so
//! that all of a network take some twenty seconds on a card, besides compiling the kernels once.

use std::time::Instant;

use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, Device, Distribution, ExecutionError, Tensor, TensorReadError, s};

use super::wgsl::{self, ConvPass, ConvPlan, ConvVariant};
use super::{ConvShape, checked_limits, op};
use crate::device::{MemoryWatch, in_one_line};
use crate::half::{to_float, to_half};
use crate::kernels::DeviceLimits;
use crate::kernels::storage::Storage;
use crate::timing::{at_full_clock, median, milliseconds};

/// Values that are compared, at both ends of a result.
const SAMPLE: usize = 1 << 14;
/// Difference of two variants' results over the largest value: in half precision operands are rounded to 11
/// bits, on different ways.
const TOLERANCE: f32 = 2e-2;

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

/// Variants timed at most.
const CANDIDATES: usize = 12;
/// Time that the launches of a pass should take, those that compile aside, milliseconds.
const BUDGET: f64 = 150.0;
/// Clips of the very first launch.
const FEW: usize = 2;
/// No launch should be expected to last longer, milliseconds: systems reset a GPU that works for seconds.
const SAFE: f64 = 250.0;
/// A launch that takes longer than this is timed with fewer clips, milliseconds.
const LONG: f64 = 8.0;
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

/// Times the variants in which `device` can compute a pass, with activations of type `dtype`; `None`
/// where there is no choice.
///
/// # Errors
/// If the device fails.
pub(crate) fn fastest(
    device: &Device,
    pass: ConvPass,
    shape: &ConvShape,
    dtype: DType,
) -> Result<Option<Trial>, ExecutionError> {
    let device = device.clone().without_autodiff();
    let Some(limits) = checked_limits(&device, dtype) else { return Ok(None) };
    let stored = pass.storage(Storage::of(dtype, &limits));
    if candidates(pass, shape, stored, &limits).is_none() {
        return Ok(None);
    }
    let mut watch = MemoryWatch::start(&device);
    let timed = time_all(&device, pass, shape, stored, &limits);
    // Before its error: work without memory fails in more than one way.
    if watch.out_of_memory() {
        watch.recover();
        return Ok(None);
    }
    let timed = timed?;
    watch.intact()?;
    Ok(timed.and_then(decide))
}

/// The candidates with their times, with as many clips as keep launches short; `None` without a choice.
fn time_all(
    device: &Device,
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Result<Option<Vec<Candidate>>, ExecutionError> {
    let with = |batch: usize| ConvShape { batch, ..*shape };
    let first = |shape: &ConvShape| -> Result<f64, ExecutionError> {
        let Ok(plan) = wgsl::plan(pass, shape, stored, limits) else { return Ok(f64::INFINITY) };
        let bench = Bench::new(device, pass, shape, stored);
        // The first launch compiles.
        bench.time(&plan, 1)?;
        bench.time(&plan, 1)
    };
    let few = shape.batch.min(FEW);
    let safe = clips_within(SAFE, shape.batch, first(&with(few))? / few as f64).max(few);
    let ms = first(&with(safe))?;
    let fewer = with(clips_within(LONG, safe, ms / safe as f64));
    let Some(candidates) = candidates(pass, &fewer, stored, limits) else { return Ok(None) };
    let bench = Bench::new(device, pass, &fewer, stored);
    bench.compare(candidates, !limits.software).map(Some)
}

/// The variants to time, the usual one first; `None` where there is no choice.
fn candidates(
    pass: ConvPass,
    shape: &ConvShape,
    stored: Storage,
    limits: &DeviceLimits,
) -> Option<Vec<Candidate>> {
    let usual = wgsl::plan(pass, shape, stored, limits).ok()?;
    let plans = wgsl::distinct_plans(pass, shape, stored, limits);
    let candidate =
        |(variant, plan)| Candidate { variant, is_usual: plan == usual, plan, ms: Vec::new() };
    let mut candidates: Vec<Candidate> = plans.into_iter().map(candidate).collect();
    // A stable sort: the others stay in the order of the variants, the promising ones first.
    candidates.sort_by_key(|candidate| !candidate.is_usual);
    candidates.truncate(CANDIDATES);
    (candidates.len() > 1).then_some(candidates)
}

/// As many of these clips as a launch of `most` milliseconds computes, where a clip takes `ms`.
fn clips_within(most: f64, clips: usize, ms: f64) -> usize {
    ((most / ms) as usize).clamp(1, clips)
}

/// Launches of one measurement, where a launch takes `ms` and `left` milliseconds remain for this many
/// candidates.
fn launches(ms: f64, candidates: usize, left: f64) -> usize {
    let affordable = left / (ROUNDS * candidates) as f64 / ms;
    (LONG_ENOUGH / ms).ceil().min(affordable).clamp(1.0, MOST) as usize
}

/// A pass with operands.
struct Bench {
    device: Device,
    pass: ConvPass,
    shape: ConvShape,
    /// How operand 0 is stored.
    stored: Storage,
    operands: [CubeTensor; 2],
}

impl Bench {
    fn new(device: &Device, pass: ConvPass, shape: &ConvShape, stored: Storage) -> Self {
        let random = |size: [usize; 5], half: bool| {
            let tensor = Tensor::<5>::random(size, Distribution::Uniform(-1.0, 1.0), device);
            let tensor = if half { to_half(tensor) } else { tensor };
            let tensor = tensor.try_into_primitive::<CubeBackend>();
            tensor.expect("a device with limits is one of CubeCL's")
        };
        let [a, b] = match pass {
            ConvPass::Forward => [shape.x(), shape.w()],
            ConvPass::InputGradient => [shape.y(), shape.w()],
            ConvPass::WeightGradient => [shape.x(), shape.y()],
        };
        let half = stored.is_half();
        let operands = [random(a, half), random(b, half && pass == ConvPass::WeightGradient)];
        Self { device: device.clone(), pass, shape: *shape, stored, operands }
    }

    /// Milliseconds of a launch, the mean of `launches`.
    fn time(&self, plan: &ConvPlan, launches: usize) -> Result<f64, ExecutionError> {
        self.device.sync()?;
        let start = Instant::now();
        for _ in 0..launches {
            drop(op::run(self.pass, &self.shape, self.stored, plan, self.operands.clone()));
        }
        self.device.sync()?;
        Ok(milliseconds(start) / launches as f64)
    }

    /// Some values of a plan's result. A launch that failed is an error here and nowhere before: its error
    /// belongs to the buffer that it did not write.
    fn sample(&self, plan: &ConvPlan) -> Result<Vec<f32>, TensorReadError> {
        // Memory is used again: what is not written would have the result of the variant before.
        let (size, stored) = op::result(self.pass, &self.shape, self.stored);
        let empty = Tensor::<5>::full(size, f32::NAN, &self.device);
        let empty = if stored.is_half() { to_half(empty) } else { empty };
        let result = empty.try_into_primitive::<CubeBackend>();
        let result = result.expect("a device with limits is one of CubeCL's");
        op::run_into(plan, self.operands.clone(), &result);
        let values = size.iter().product::<usize>();
        let result = to_float(Tensor::<5>::from_primitive::<CubeBackend>(result));
        let result = result.reshape([values]);
        // The end is where tiles reach beyond the result.
        let part = values.min(SAMPLE);
        let parts = [s![..part], s![values - part..]].map(|part| result.clone().slice(part));
        Tensor::cat(parts.to_vec(), 0).try_into_vec_as::<f32>()
    }

    /// Whether a variant computes what the usual one does. Not all of those that are timed have been tried
    /// before, and one that computes nothing would be the fastest.
    fn is_right(&self, candidate: &Candidate, usual: &[f32]) -> bool {
        let why = match self.sample(&candidate.plan) {
            Ok(values) if agree(&values, usual) => return true,
            Ok(_) => "its result differs from the usual variant's".to_owned(),
            Err(error) => in_one_line(&error),
        };
        log::warn!("{:?} {:?} does without {:?}: {why}", self.pass, self.shape, candidate.variant);
        false
    }

    /// The candidates, the usual one first, with their times, without those that the time did not suffice
    /// for, those that were clearly slower and those that compute something else. A GPU has lowered its
    /// clock while they were compiled.
    fn compare(
        &self,
        mut candidates: Vec<Candidate>,
        gpu: bool,
    ) -> Result<Vec<Candidate>, ExecutionError> {
        let (mut best, mut spent, mut usual) = (f64::INFINITY, 0.0, None);
        for candidate in &mut candidates {
            // Half of the time is for a first measurement of each.
            if spent > BUDGET / 2.0 {
                break;
            }
            // The first launch compiles.
            match &usual {
                None => usual = Some(self.sample(&candidate.plan).map_err(failed)?),
                Some(usual) if !self.is_right(candidate, usual) => continue,
                Some(_) => {}
            }
            let ms = self.time(&candidate.plan, 1)?;
            candidate.ms.push(ms);
            best = best.min(ms);
            // The launch that compiles computes as well.
            spent += 2.0 * ms;
        }
        candidates.retain(|candidate| {
            let hopeful = candidate.ms.first().is_some_and(|&ms| ms <= best * HOPELESS);
            candidate.is_usual || hopeful
        });
        let launches = launches(best, candidates.len(), BUDGET - spent);
        candidates.iter_mut().for_each(|candidate| candidate.ms.clear());
        if gpu {
            at_full_clock(|| self.time(&candidates[0].plan, launches))?;
        }
        for _ in 0..ROUNDS {
            for candidate in &mut candidates {
                candidate.ms.push(self.time(&candidate.plan, launches)?);
            }
        }
        for Candidate { variant, is_usual, ms, .. } in &candidates {
            let ms = median(ms.clone());
            log::debug!(
                "{:?} {:?} {variant:?}{}: {ms:.3} ms",
                self.pass,
                self.shape,
                if *is_usual { ", usual" } else { "" }
            );
        }
        Ok(candidates)
    }
}

/// The usual variant is what training takes in any case.
fn failed(error: TensorReadError) -> ExecutionError {
    ExecutionError::with_context(error.to_string())
}

/// Whether two variants' results are equal up to rounding, relative to the largest value.
fn agree(values: &[f32], usual: &[f32]) -> bool {
    let largest = usual.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * largest;
    values.len() == usual.len() && values.iter().zip(usual).all(close)
}

/// A variant and its times.
struct Candidate {
    variant: ConvVariant,
    /// Whether it is what the device's limits suggest.
    is_usual: bool,
    plan: ConvPlan,
    ms: Vec<f64>,
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
    use crate::kernels::MatrixUnits;

    const WIDE: ConvShape = ConvShape {
        batch: 1,
        in_channels: 512,
        out_channels: 512,
        input: [2, 7, 7],
        kernel: [3, 3, 3],
        stride: [1; 3],
        padding: [1; 3],
    };

    #[test]
    fn a_trial_of_long_launches_takes_fewer_of_them_and_fewer_clips() {
        assert_eq!(clips_within(LONG, 24, 0.1), 24);
        assert_eq!(clips_within(LONG, 24, LONG / 12.0), 12);
        assert_eq!(clips_within(LONG, 24, 1e4), 1);
        assert_eq!(clips_within(SAFE, 24, f64::INFINITY), 1);
        // Short launches are repeated until a measurement is long enough, …
        assert_eq!(launches(1.0, 4, BUDGET), 3);
        assert_eq!(launches(1e-6, 4, BUDGET), MOST as usize);
        // … if the time suffices.
        assert_eq!(launches(1.0, 12, BUDGET / 2.0), 2);
        assert_eq!(launches(LONG, 12, -1.0), 1);
    }

    #[test]
    fn a_trial_compares_matrix_units_with_other_kernels() {
        let units = MatrixUnits { size: 16, lanes: 32, scalars: false, emulated: false };
        let limits = DeviceLimits {
            max_invocations: 1024,
            workgroup_memory: 48 << 10,
            shader_f16: true,
            subgroup: [32, 32],
            matrix_units: Some(units),
            ..DeviceLimits::WEBGPU
        };
        let shape = WIDE;
        for pass in ConvPass::ALL {
            let count = |stored| {
                let timed = candidates(pass, &shape, stored, &limits).unwrap();
                let by_units =
                    |candidate: &&Candidate| matches!(candidate.variant, ConvVariant::Units { .. });
                assert_eq!(by_units(&&timed[0]), stored == Storage::F16);
                let count = timed.iter().filter(by_units).count();
                [count, timed.len() - count]
            };
            let [by_units, others] = count(Storage::F16);
            assert!(by_units >= 3 && others >= 3, "{by_units} by units, {others} others");
            assert_eq!(count(Storage::F32)[0], 0);
        }
    }

    #[test]
    fn a_variant_must_be_clearly_faster_than_the_usual_one() {
        let variants = wgsl::variants(ConvPass::Forward, Storage::F32, &DeviceLimits::WEBGPU);
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

    #[test]
    fn a_variant_that_computes_something_else_is_not_taken() {
        let Some(device) = crate::device::unshared() else { return };
        let limits = checked_limits(&device, DType::F32).unwrap();
        let (input, kernel, padding) = ([2, 6, 6], [1, 3, 3], [0, 1, 1]);
        let shape = ConvShape { in_channels: 4, out_channels: 8, input, kernel, padding, ..WIDE };
        for pass in ConvPass::ALL {
            let bench = Bench::new(&device, pass, &shape, Storage::F32);
            let mut all = candidates(pass, &shape, Storage::F32, &limits).unwrap();
            let planted = all[1].variant;
            let usual = bench.sample(&all[0].plan).unwrap();
            assert!(all.iter().all(|candidate| bench.is_right(candidate, &usual)), "{pass:?}");
            // One that writes nothing takes no time.
            all[1].plan = ConvPlan::new();
            let trial = decide(bench.compare(all, false).unwrap()).unwrap();
            assert_ne!(trial.choice, planted, "{pass:?}");
        }
    }

    #[test]
    fn results_agree_up_to_rounding() {
        assert!(agree(&[1.0, -0.01], &[1.001, 0.0]));
        assert!(!agree(&[1.0, 0.1], &[1.0, 0.0]));
        assert!(!agree(&[f32::NAN], &[1.0]));
        assert!(!agree(&[0.0], &[1.0]));
        assert!(!agree(&[1.0], &[1.0, 1.0]));
    }
}
