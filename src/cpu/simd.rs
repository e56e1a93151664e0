//! Running a kernel on the best vectors that the machine has.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

use pulp::{Arch, WithSimd};

/// Whether not to use AVX-512, so that tests and measurements can take the kernels of a machine without
/// it.
#[cfg(target_arch = "x86_64")]
static WITHOUT_AVX512: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("POLYVIEW_WITHOUT_AVX512").is_some());

/// Runs `op` with AVX-512, AVX2, NEON or whatever there is.
#[inline(always)]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    let arch = Arch::new();
    #[cfg(target_arch = "x86_64")]
    if let (Arch::V4(_), true, Some(simd)) = (&arch, *WITHOUT_AVX512, pulp::x86::V3::try_new()) {
        return pulp::Simd::vectorize(simd, op);
    }
    // Burn's build leaves pulp's choice of AVX2 out; its code is there all the same.
    #[cfg(target_arch = "x86_64")]
    if let (Arch::Scalar, Some(simd)) = (&arch, pulp::x86::V3::try_new()) {
        return pulp::Simd::vectorize(simd, op);
    }
    arch.dispatch(op)
}

/// The widest vectors of this machine that the kernels take.
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
