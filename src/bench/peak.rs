//! The measured peak of a device.
//!
//! It is the f32 rate of chains of fused multiply-adds in registers, each counted as two
//! operations, on all threads of the CPU's pool or on as many invocations as fill a GPU; the best
//! of a few runs counts. A convolution's rate divided by the peak is the fraction of the machine
//! that the kernel uses. Matrix units are not measured: in half precision, kernels that use them
//! may be faster than this peak.

use std::time::Instant;

use burn::backend::DispatchDevice;
use burn::backend::wgpu::CubeBackend;
use burn::tensor::{Device, ExecutionError, Tensor};
use polyview_cpu::peak::on_all_threads;

use crate::kernels::launch;
use crate::kernels::layout::{Layout, Record, wgsl_struct};
use crate::kernels::plan::{self, DeviceLimits, Launch, PlanError, Shader, Slot, fill, fold};

/// Why the peak could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum PeakError {
    /// The device failed.
    #[error("the device failed while its peak was measured: {0}")]
    Device(#[from] ExecutionError),
    /// The device cannot run the shader.
    #[error("the device's peak cannot be measured: {0}")]
    Plan(#[from] PlanError),
}

/// Minimum duration of a timed run in seconds; shorter ones would measure the launch.
const MIN_SECONDS: f64 = 0.05;
/// Number of timed runs.
const RUNS: usize = 5;
/// Maximum number of doublings of a run's length: far beyond any device's speed.
const MAX_DOUBLINGS: usize = 30;

/// What every iteration multiplies by, and what it adds. The sums tend to 1, far from overflow and
/// from subnormal numbers, which slow some processors down.
const FACTOR: f32 = 0.99;
const TERM: f32 = 0.01;

/// Measures the peak of `device` in GFLOP/s; `None` where the kernels are Burn's own (CUDA).
pub fn peak(device: &Device) -> Result<Option<f64>, PeakError> {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Flex(_) => {
            best(|rounds| Ok(on_all_threads(rounds, [FACTOR, TERM]))).map(Some)
        }
        DispatchDevice::Cube(cube) if launch::limits(cube).is_some() => {
            let run = |rounds| {
                let sums = chains_on_wgpu(device, INVOCATIONS, rounds, [FACTOR, TERM])?;
                device.sync()?;
                drop(sums);
                Ok(operations(INVOCATIONS, rounds))
            };
            best(run).map(Some)
        }
        _ => Ok(None),
    }
}

/// Returns the rate of the best run in 10⁹ operations per second; `run` executes a number of rounds
/// and returns the number of operations.
fn best(run: impl Fn(usize) -> Result<f64, PeakError>) -> Result<f64, PeakError> {
    let timed = |rounds: usize| {
        let start = Instant::now();
        let operations = run(rounds)?;
        Ok::<_, PeakError>((start.elapsed().as_secs_f64(), operations))
    };
    let mut rounds = 1;
    for _ in 0..MAX_DOUBLINGS {
        // The first run compiles the kernel; none of these runs counts.
        if timed(rounds)?.0 >= MIN_SECONDS {
            break;
        }
        rounds *= 2;
    }
    let mut best = 0.0f64;
    for _ in 0..RUNS {
        let (seconds, operations) = timed(rounds)?;
        best = best.max(operations / seconds / 1e9);
    }
    Ok(best)
}

/// Number of chains per invocation: enough to hide any GPU's latency, with few registers.
const CHAINS: usize = 12;
/// Number of iterations that the shader's text unrolls.
const UNROLLED: usize = 16;
/// Number of invocations: enough for every unit of a large GPU, many times over.
const INVOCATIONS: usize = 1 << 19;

/// The shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PeakKernel;

wgsl_struct! {
    struct PeakParams as "Params" {
        invocations: u32,
        rounds: u32,
        factor: f32,
        term: f32,
    }
}

impl Shader for PeakKernel {
    fn file(&self) -> &'static str {
        "peak.wgsl"
    }

    fn source(&self) -> String {
        let lines = |line: &dyn Fn(usize) -> String| (0..CHAINS).map(line).collect::<String>();
        let iteration = lines(&|chain| format!("c{chain} = fma(c{chain}, factor, term);\n"));
        let names: Vec<String> = (0..CHAINS).map(|chain| format!("c{chain}")).collect();
        let values = [
            ("chains", CHAINS.to_string()),
            ("unrolled", UNROLLED.to_string()),
            ("declare", lines(&|chain| format!("var c{chain} = start + {chain}.0;\n"))),
            ("multiply", iteration.repeat(UNROLLED)),
            ("sum", names.join(" + ")),
        ];
        fill(include_str!("../../shaders/peak.wgsl"), &values)
    }

    fn workgroup_size(&self) -> u32 {
        THREADS as u32
    }

    fn params(&self) -> &'static Layout {
        PeakParams::LAYOUT
    }
}

const THREADS: usize = 256;

/// Returns the number of floating-point operations of [`chains_on_wgpu`].
fn operations(invocations: usize, rounds: usize) -> f64 {
    (2 * invocations * rounds * UNROLLED * CHAINS) as f64
}

/// Plans one launch: operand 0 is written.
fn plan(
    invocations: usize,
    rounds: usize,
    [factor, term]: [f32; 2],
    limits: &DeviceLimits,
) -> Result<plan::Plan<PeakKernel>, PlanError> {
    if limits.max_invocations < THREADS as u32 {
        return Err(PlanError::Device);
    }
    plan::fits(invocations, limits)?;
    let groups = fold(invocations.div_ceil(THREADS), 1, limits)?;
    let params =
        PeakParams { invocations: invocations as u32, rounds: rounds as u32, factor, term };
    Ok(plan::Plan::single(Launch::new(PeakKernel, groups, vec![Slot::Operand(0)], &params)))
}

/// Executes `shaders/peak.wgsl` on a wgpu device: for each invocation i, the result is the sum over
/// the chains j = 0 … 11 of c after 16·`rounds` iterations of c ← c·factor + term, starting from (i
/// mod 1024)/1024 + j.
///
/// # Errors
/// If the device cannot run our WGSL.
pub fn chains_on_wgpu(
    device: &Device,
    invocations: usize,
    rounds: usize,
    factor_and_term: [f32; 2],
) -> Result<Tensor<1>, PlanError> {
    let sums = Tensor::<1>::empty([invocations], device);
    let sums = sums.try_into_primitive::<CubeBackend>().map_err(|_| PlanError::Device)?;
    let limits = launch::limits(&sums.device).ok_or(PlanError::Device)?;
    let plan = plan(invocations, rounds, factor_and_term, &limits)?;
    launch::run(&sums.client, &plan, &[&sums.handle]);
    Ok(Tensor::from_primitive::<CubeBackend>(sums))
}
