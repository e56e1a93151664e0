//! Running a kernel on the best vectors that the machine has.

use pulp::{Arch, WithSimd};

/// Runs `op` with AVX-512, AVX2, NEON or whatever there is.
#[inline(always)]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    let arch = Arch::new();
    // Burn's build leaves pulp's choice of AVX2 out; its code is there all the same.
    #[cfg(target_arch = "x86_64")]
    if let (Arch::Scalar, Some(simd)) = (&arch, pulp::x86::V3::try_new()) {
        return pulp::Simd::vectorize(simd, op);
    }
    arch.dispatch(op)
}
