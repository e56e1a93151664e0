//! Finds the fastest variant of a pass on a device by timing the candidates. Each pass has a fixed
//! time budget, so that all passes of a network take about twenty seconds on a GPU, apart from
//! compiling the kernels once.

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

/// Number of values compared at each end of a result.
const SAMPLE: usize = 1 << 14;
/// Tolerated difference between two variants' results, relative to the largest value: in half
/// precision, operands are rounded to 11 bits at different points.
const TOLERANCE: f32 = 2e-2;

/// The outcome of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    /// The fastest variant.
    pub choice: ConvVariant,
    /// Its time in milliseconds.
    pub ms: f64,
    /// Time of the default variant for the device's limits, in milliseconds.
    pub usual_ms: f64,
}

/// Maximum number of variants to time.
const MAX_CANDIDATES: usize = 12;
/// Time budget for the launches of a pass in milliseconds, not counting compilation.
const BUDGET_MS: f64 = 150.0;
/// Clips in the very first launch.
const FIRST_CLIPS: usize = 2;
/// Longest expected duration of a launch in milliseconds: systems reset a GPU that is busy for
/// seconds.
const SAFE_MS: f64 = 250.0;
/// A launch that takes longer than this many milliseconds is timed with fewer clips.
const LONG_MS: f64 = 8.0;
/// Number of timed rounds. Every variant is measured once per round; the median decides.
const ROUNDS: usize = 3;
/// A variant whose first measurement takes more than this many times the fastest one is dropped.
const MAX_SLOWDOWN: f64 = 1.5;
/// Share of the default variant's time that another variant must not exceed to replace it.
const REPLACE_SHARE: f64 = 0.97;
/// Minimum duration of a measurement in milliseconds, to amortise launching and waiting.
const MIN_MEASUREMENT_MS: f64 = 3.0;
/// Maximum number of launches per measurement.
const MAX_LAUNCHES: f64 = 64.0;

/// Times the variants in which `device` can compute a pass, with activations of type `dtype`.
/// Returns `None` if there is nothing to choose from, or not enough memory for the trial.
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
    // Check this before the error: out-of-memory shows up as various errors.
    if watch.out_of_memory() {
        watch.recover();
        return Ok(None);
    }
    let timed = timed?;
    watch.intact()?;
    Ok(timed.and_then(decide))
}

/// Times the candidates with as many clips as keep launches short; `None` if there is no choice.
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
    let few = shape.batch.min(FIRST_CLIPS);
    let safe = clips_within(SAFE_MS, shape.batch, first(&with(few))? / few as f64).max(few);
    let ms = first(&with(safe))?;
    let fewer = with(clips_within(LONG_MS, safe, ms / safe as f64));
    let Some(candidates) = candidates(pass, &fewer, stored, limits) else { return Ok(None) };
    let bench = Bench::new(device, pass, &fewer, stored);
    bench.compare(candidates, !limits.software).map(Some)
}

/// Returns the variants to time, the default one first; `None` if there is no choice.
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
    // The sort is stable: the others keep the order of the variants, most promising first.
    candidates.sort_by_key(|candidate| !candidate.is_usual);
    candidates.truncate(MAX_CANDIDATES);
    (candidates.len() > 1).then_some(candidates)
}

/// Returns how many of `clips` a launch of at most `max_ms` computes, at `ms` milliseconds per
/// clip.
fn clips_within(max_ms: f64, clips: usize, ms: f64) -> usize {
    ((max_ms / ms) as usize).clamp(1, clips)
}

/// Returns the number of launches per measurement, where a launch takes `ms` milliseconds and
/// `remaining` milliseconds are left for this many candidates.
fn launches(ms: f64, candidates: usize, remaining: f64) -> usize {
    let affordable = remaining / (ROUNDS * candidates) as f64 / ms;
    (MIN_MEASUREMENT_MS / ms).ceil().min(affordable).clamp(1.0, MAX_LAUNCHES) as usize
}

/// A pass with random operands.
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
            tensor.expect("a device with limits is a CubeCL device")
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

    /// Measures the mean time of `launches` launches, in milliseconds per launch.
    fn time(&self, plan: &ConvPlan, launches: usize) -> Result<f64, ExecutionError> {
        self.device.sync()?;
        let start = Instant::now();
        for _ in 0..launches {
            drop(op::run(self.pass, &self.shape, self.stored, plan, self.operands.clone()));
        }
        self.device.sync()?;
        Ok(milliseconds(start) / launches as f64)
    }

    /// Reads back some values of a plan's result. A failed launch only surfaces as an error here,
    /// because the error is attached to the buffer that the launch did not write.
    fn sample(&self, plan: &ConvPlan) -> Result<Vec<f32>, TensorReadError> {
        // Buffers are reused: unwritten values would still hold the previous variant's result.
        let (size, stored) = op::result(self.pass, &self.shape, self.stored);
        let unwritten = Tensor::<5>::full(size, f32::NAN, &self.device);
        let unwritten = if stored.is_half() { to_half(unwritten) } else { unwritten };
        let result = unwritten.try_into_primitive::<CubeBackend>();
        let result = result.expect("a device with limits is a CubeCL device");
        op::run_into(plan, self.operands.clone(), &result);
        let values = size.iter().product::<usize>();
        let result = to_float(Tensor::<5>::from_primitive::<CubeBackend>(result));
        let result = result.reshape([values]);
        // At the end, tiles reach beyond the result.
        let part = values.min(SAMPLE);
        let parts = [s![..part], s![values - part..]].map(|part| result.clone().slice(part));
        Tensor::cat(parts.to_vec(), 0).try_into_vec_as::<f32>()
    }

    /// Checks whether a variant computes the same result as the default one. Not all candidates
    /// have been tested on this device before, and one that computes nothing would be the fastest.
    fn is_right(&self, candidate: &Candidate, usual: &[f32]) -> bool {
        let why = match self.sample(&candidate.plan) {
            Ok(values) if agree(&values, usual) => return true,
            Ok(_) => "its result differs from that of the default variant".to_owned(),
            Err(error) => in_one_line(&error),
        };
        log::warn!("{:?} {:?} does not use {:?}: {why}", self.pass, self.shape, candidate.variant);
        false
    }

    /// Times the candidates, the default one first. Drops those that the time budget did not cover,
    /// that were clearly slower, or whose result differs. A `gpu` is first brought back to its full
    /// clock rate, which it lowered while the kernels compiled.
    fn compare(
        &self,
        mut candidates: Vec<Candidate>,
        gpu: bool,
    ) -> Result<Vec<Candidate>, ExecutionError> {
        let (mut best, mut spent, mut usual) = (f64::INFINITY, 0.0, None);
        for candidate in &mut candidates {
            // Half of the budget is for a first measurement of each candidate.
            if spent > BUDGET_MS / 2.0 {
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
            // The launch that compiled the kernel also ran it.
            spent += 2.0 * ms;
        }
        candidates.retain(|candidate| {
            let promising = candidate.ms.first().is_some_and(|&ms| ms <= best * MAX_SLOWDOWN);
            candidate.is_usual || promising
        });
        let launches = launches(best, candidates.len(), BUDGET_MS - spent);
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
                if *is_usual { ", default" } else { "" }
            );
        }
        Ok(candidates)
    }
}

/// Converts the error of a failed launch of the default variant, which training would use anyway.
fn failed(error: TensorReadError) -> ExecutionError {
    ExecutionError::with_context(error.to_string())
}

/// Checks whether two variants' results are equal up to rounding, relative to the largest value.
fn agree(values: &[f32], usual: &[f32]) -> bool {
    let largest = usual.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * largest;
    values.len() == usual.len() && values.iter().zip(usual).all(close)
}

/// A variant and its times.
struct Candidate {
    variant: ConvVariant,
    /// Whether it is the default for the device's limits.
    is_usual: bool,
    plan: ConvPlan,
    ms: Vec<f64>,
}

/// Picks the fastest variant if it is clearly faster than the default one, else the default one.
/// `None` if the default one is not among the candidates.
fn decide(candidates: Vec<Candidate>) -> Option<Trial> {
    let timed =
        |candidate: Candidate| (candidate.is_usual, candidate.variant, median(candidate.ms));
    let timed: Vec<_> = candidates.into_iter().map(timed).collect();
    let &(_, usual, usual_ms) = timed.iter().find(|(is_usual, ..)| *is_usual)?;
    let &(_, choice, ms) = timed.iter().min_by(|a, b| a.2.total_cmp(&b.2))?;
    Some(match ms <= usual_ms * REPLACE_SHARE {
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
        assert_eq!(clips_within(LONG_MS, 24, 0.1), 24);
        assert_eq!(clips_within(LONG_MS, 24, LONG_MS / 12.0), 12);
        assert_eq!(clips_within(LONG_MS, 24, 1e4), 1);
        assert_eq!(clips_within(SAFE_MS, 24, f64::INFINITY), 1);
        // Short launches are repeated until a measurement is long enough …
        assert_eq!(launches(1.0, 4, BUDGET_MS), 3);
        assert_eq!(launches(1e-6, 4, BUDGET_MS), MAX_LAUNCHES as usize);
        // … as far as the budget allows.
        assert_eq!(launches(1.0, 12, BUDGET_MS / 2.0), 2);
        assert_eq!(launches(LONG_MS, 12, -1.0), 1);
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
            assert!(by_units >= 3 && others >= 3, "{by_units} with matrix units, {others} others");
            assert_eq!(count(Storage::F32)[0], 0);
        }
    }

    #[test]
    fn a_variant_must_be_clearly_faster_than_the_default_one() {
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
    fn a_variant_with_a_different_result_is_not_chosen() {
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
            // A plan that writes nothing takes no time.
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
