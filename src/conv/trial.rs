//! Which way of computing a pass is the fastest on a device, by trying all of them.

use std::time::Instant;

use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{Device, Distribution, ExecutionError, Tensor};

use super::wgsl::{self, Choice, Pass, Plan};
use super::{ConvShape, op};
use crate::device::MemoryWatch;
use crate::kernels::limits;

/// The outcome of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// The fastest way.
    pub choice: Choice,
    /// Its time, milliseconds.
    pub ms: f64,
    /// The time of the way that the device's limits suggest.
    pub usual_ms: f64,
}

/// Rounds that count, by turns; the median decides.
const ROUNDS: usize = 3;
/// A way that takes so many times the fastest one's time at first is not tried again.
const HOPELESS: f64 = 1.5;
/// What a way must win over the usual one to be worth a change.
const WORTH: f64 = 0.97;
/// A round lasts at least this long, milliseconds: what it takes to launch and to wait does not
/// count then.
const LONG_ENOUGH: f64 = 3.0;
/// Launches of a round at most.
const MOST: f64 = 64.0;

/// Times the ways in which `device` can compute a pass; `None` where there is no choice.
///
/// # Errors
/// If the device fails.
pub fn fastest(
    device: &Device,
    pass: Pass,
    shape: &ConvShape,
) -> Result<Option<Trial>, ExecutionError> {
    let device = device.clone().without_autodiff();
    let Some(limits) = limits(&device) else { return Ok(None) };
    let Ok(usual) = wgsl::plan(pass, shape, &limits) else { return Ok(None) };
    let mut ways: Vec<Way> = Vec::new();
    for choice in wgsl::choices(pass, &limits) {
        let Ok(plan) = wgsl::plan_as(pass, shape, &limits, Some(choice)) else { continue };
        if ways.iter().all(|way| way.plan != plan) {
            ways.push(Way { choice, is_usual: plan == usual, plan, ms: Vec::new() });
        }
    }
    if ways.len() < 2 {
        return Ok(None);
    }
    let random = |size: [usize; 5]| {
        let tensor = Tensor::<5>::random(size, Distribution::Uniform(-1.0, 1.0), &device);
        tensor.try_into_primitive::<CubeBackend>().ok()
    };
    let operands = match pass {
        Pass::Forward => [random(shape.x()), random(shape.w())],
        Pass::InputGradient => [random(shape.y()), random(shape.w())],
        Pass::WeightGradient => [random(shape.x()), random(shape.y())],
    };
    let [Some(a), Some(b)] = operands else { return Ok(None) };
    let time = |way: &Way, launches: usize| -> Result<f64, ExecutionError> {
        device.sync()?;
        let start = Instant::now();
        for _ in 0..launches {
            queue(pass, shape, &way.plan, [&a, &b]);
        }
        device.sync()?;
        Ok(start.elapsed().as_secs_f64() * 1e3 / launches as f64)
    };
    let mut watch = MemoryWatch::start(&device);
    let mut best = f64::INFINITY;
    for way in &mut ways {
        // The first launch compiles.
        time(way, 1)?;
        way.ms.push(time(way, 1)?);
        best = best.min(way.ms[0]);
    }
    ways.retain(|way| way.is_usual || way.ms[0] <= best * HOPELESS);
    let launches = (LONG_ENOUGH / best).ceil().clamp(1.0, MOST) as usize;
    ways.iter_mut().for_each(|way| way.ms.clear());
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.ms.push(time(way, launches)?);
        }
    }
    if watch.out_of_memory() {
        watch.recover();
        return Ok(None);
    }
    Ok(judge(&mut ways))
}

/// A way and its times.
struct Way {
    choice: Choice,
    is_usual: bool,
    plan: Plan,
    ms: Vec<f64>,
}

fn queue(pass: Pass, shape: &ConvShape, plan: &Plan, operands: [&CubeTensor; 2]) {
    drop(op::run(pass, shape, plan, operands));
}

/// The fastest way if it is worth a change, else the usual one.
fn judge(ways: &mut [Way]) -> Option<Trial> {
    let median = |way: &mut Way| {
        way.ms.sort_by(f64::total_cmp);
        way.ms.get(way.ms.len() / 2).copied()
    };
    let usual = ways.iter_mut().find(|way| way.is_usual)?;
    let (usual_ms, usual) = (median(usual)?, usual.choice);
    let fastest = ways.iter_mut().filter_map(|way| Some((median(way)?, way.choice)));
    let (ms, choice) = fastest.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(match ms <= usual_ms * WORTH {
        true => Trial { choice, ms, usual_ms },
        false => Trial { choice: usual, ms: usual_ms, usual_ms },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::plan::DeviceLimits;

    #[test]
    fn a_way_must_be_clearly_faster_than_the_usual_one() {
        let choices = wgsl::choices(Pass::Forward, &DeviceLimits::WEBGPU);
        let way = |index: usize, is_usual, ms: [f64; 3]| Way {
            choice: choices[index],
            is_usual,
            plan: Plan::new(),
            ms: ms.to_vec(),
        };
        // A single slow round decides nothing.
        let mut ways = [
            way(0, false, [1.0, 9.0, 1.1]),
            way(1, true, [1.2, 1.2, 0.1]),
            way(2, false, [1.3, 1.3, 1.3]),
        ];
        let trial = Trial { choice: choices[0], ms: 1.1, usual_ms: 1.2 };
        assert_eq!(judge(&mut ways), Some(trial));
        let mut ways = [way(0, false, [1.18; 3]), way(1, true, [1.2; 3])];
        let trial = Trial { choice: choices[1], ms: 1.2, usual_ms: 1.2 };
        assert_eq!(judge(&mut ways), Some(trial));
    }
}
