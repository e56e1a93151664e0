//! The device memory that training steps use and reserve, compared with the estimate.

use burn::tensor::Device;
use polyview::bench::{BenchConfig, StepMemory};
use polyview::kernels::memory::{MemoryPeak, peak_of};
use polyview::kernels::{DeviceLimits, with_limits};
use polyview::model::BackboneKind;

use crate::common::adapter;

/// Measures the memory of a step, in a separate thread because Burn has separate memory per thread.
fn step(
    device: &Device,
    limits: fn(DeviceLimits) -> DeviceLimits,
    (backbone, clips, size): (BackboneKind, usize, [usize; 3]),
    half: bool,
) -> StepMemory {
    let work = || {
        let config = BenchConfig { backbone, clips, size, steps: 1, stock: false, half };
        let run = || with_limits(limits, || config.steps(device, || ()).unwrap());
        let (times, around) = peak_of(device, run).expect("our kernels run on the adapter");
        let measured = times.memory.measured.expect("our kernels run on the adapter");
        assert!(around.in_use >= measured.in_use, "{around:?}, {measured:?}");
        times.memory
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn steps_use_the_estimated_memory_and_reserve_little_more() {
    let Some(device) = adapter::device() else { return };
    let same: fn(DeviceLimits) -> DeviceLimits = |limits| limits;
    let gpu: fn(DeviceLimits) -> DeviceLimits = |limits| DeviceLimits { software: false, ..limits };
    // Bounds of reserved over used memory. Parameters of launches and small tensors have pages of their
    // own, some 20 MB for any network, which matter for a tiny one.
    let (little, tiny) = (1.15, 1.9);
    for (limits, case, most, half) in [
        (gpu, (BackboneKind::R3dTiny, 8, [8, 112, 112]), tiny, false),
        (gpu, (BackboneKind::R3dTiny, 8, [8, 112, 112]), tiny, true),
        (same, (BackboneKind::R3dTiny, 8, [8, 112, 112]), tiny, false),
        (same, (BackboneKind::R2plus1d18, 2, [4, 48, 48]), little, false),
        (same, (BackboneKind::R2plus1d18, 1, [8, 80, 80]), little, false),
        (gpu, (BackboneKind::R2plus1d18, 1, [8, 80, 80]), little, true),
    ] {
        let StepMemory { estimated: estimate, measured } = step(&device, limits, case, half);
        let MemoryPeak { in_use, reserved } = measured.expect("our kernels run on the adapter");
        println!("{case:?}, half {half}: {in_use} B in use, {reserved} held, {estimate} estimated");
        assert!(in_use <= estimate, "{case:?}: {in_use} B in use, {estimate} B estimated");
        assert!(in_use * 2 >= estimate, "{case:?}: {in_use} B in use, {estimate} B estimated");
        let held = reserved as f64 / in_use as f64;
        assert!(held <= most, "{case:?}: {reserved} B held for {in_use} B in use");
    }
}
