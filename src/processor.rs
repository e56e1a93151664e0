//! Whether this machine's processor has the instructions that the build takes for granted
//! (`.cargo/config.toml`). Without the question a program from another machine would end by a signal,
//! with no word of why.

/// The processor lacks something that the build needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this build needs AVX2 and FMA, which x86 processors have had since about 2015 and this one \
     lacks: build with RUSTFLAGS=\"-C target-cpu=x86-64\""
)]
pub struct Unfit;

/// Asks the processor. A program should do so before anything else.
///
/// # Errors
/// If it lacks instructions that the whole build uses; what is chosen at run time does not count.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub fn check() -> Result<(), Unfit> {
    use std::arch::x86_64::__cpuid_count;

    // The processor itself is asked, for the standard library's macro knows what the build assumes
    // and answers yes. Nothing is put into memory on the way: that would take such instructions.
    // Bits as in the manuals of Intel (CPUID) and AMD.
    const FMA_MOVBE_OSXSAVE_AVX_F16C: u32 = 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29;
    const BMI1_AVX2_BMI2: u32 = 1 << 3 | 1 << 5 | 1 << 8;
    const LZCNT: u32 = 1 << 5;
    let has = |mask: u32, bits: u32| bits & mask == mask;
    let fit = __cpuid_count(0, 0).eax >= 7
        && __cpuid_count(0x8000_0000, 0).eax >= 0x8000_0001
        && has(FMA_MOVBE_OSXSAVE_AVX_F16C, __cpuid_count(1, 0).ecx)
        && has(BMI1_AVX2_BMI2, __cpuid_count(7, 0).ebx)
        && has(LZCNT, __cpuid_count(0x8000_0001, 0).ecx);
    if fit { Ok(()) } else { Err(Unfit) }
}

/// Asks the processor. A program should do so before anything else.
///
/// # Errors
/// If it lacks instructions that the whole build uses; this build uses none that could be missing.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub fn check() -> Result<(), Unfit> {
    Ok(())
}
