//! Runtime dispatch of kernels to the widest vector instructions of the machine.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

use pulp::{Arch, WithSimd};

/// Whether AVX-512 is disabled by the environment, so that tests and benchmarks can exercise the
/// kernels of a machine without it.
#[cfg(target_arch = "x86_64")]
static WITHOUT_AVX512: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("POLYVIEW_WITHOUT_AVX512").is_some());

/// Runs `op` with the best instruction set available: AVX-512, AVX2, NEON or scalar code.
#[inline(always)]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    let arch = Arch::new();
    #[cfg(target_arch = "x86_64")]
    if let (Arch::V4(_), true, Some(simd)) = (&arch, *WITHOUT_AVX512, pulp::x86::V3::try_new()) {
        return pulp::Simd::vectorize(simd, op);
    }
    // With the features that Burn enables, pulp's `Arch` never selects AVX2, although its AVX2 code
    // is compiled in.
    #[cfg(target_arch = "x86_64")]
    if let (Arch::Scalar, Some(simd)) = (&arch, pulp::x86::V3::try_new()) {
        return pulp::Simd::vectorize(simd, op);
    }
    arch.dispatch(op)
}

/// Returns the name of the widest vector instruction set that the kernels use on this machine.
pub fn vectors() -> &'static str {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    match dispatch(Lanes) {
        16 => "AVX-512",
        8 => "AVX2",
        4 if cfg!(target_arch = "aarch64") => "NEON",
        1 => "none",
        _ => "128-bit",
    }
}
