//! Transposition between `[channels, positions]` and `[positions, channels]`, and other
//! reorderings.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256;

#[cfg(target_arch = "x86_64")]
use pulp::{cast, x86::V3};

/// Reordering of values by shuffle instructions where the machine has them. Compilers read columns
/// and every second value one by one, or gather them, at several times the cost.
///
/// Meant for use inside code that is compiled for the machine's vectors.
#[derive(Clone, Copy)]
pub(super) struct Shuffles {
    #[cfg(target_arch = "x86_64")]
    simd: Option<V3>,
}

impl Shuffles {
    /// Detects the instructions of this machine.
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            simd: V3::try_new(),
        }
    }

    /// Transposes a matrix.
    #[inline(always)]
    pub(super) fn transpose(self, rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.simd {
            return transpose_by_shuffles(simd, rows);
        }
        std::array::from_fn(|column| rows.map(|row| row[column]))
    }

    /// Returns every second value of two concatenated rows, starting with the first.
    #[inline(always)]
    pub(super) fn evens(self, rows: [[f32; 8]; 2]) -> [f32; 8] {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.simd {
            return evens_by_shuffles(simd, rows);
        }
        std::array::from_fn(|index| rows[index / 4][index % 4 * 2])
    }
}

/// Selects the values at even indices within each 128-bit half, then reorders the 64-bit pairs.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn evens_by_shuffles(simd: V3, [low, high]: [[f32; 8]; 2]) -> [f32; 8] {
    const EVEN: i32 = 0b10_00_10_00;
    const PAIRS: i32 = 0b11_01_10_00;
    let evens = simd.avx._mm256_shuffle_ps::<EVEN>(cast(low), cast(high));
    cast(simd.avx2._mm256_permute4x64_pd::<PAIRS>(cast(evens)))
}

/// Transposes 4×4 blocks within the 128-bit halves, then exchanges the halves.
///
/// Closures are avoided, since they would not be compiled for the machine's vectors.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_by_shuffles(simd: V3, rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    const LOW: i32 = 0x20;
    const HIGH: i32 = 0x31;
    let avx = simd.avx;
    let [a, b, c, d, e, f, g, h] = rows;
    let [a, b, c, d] = transpose_halves(simd, [a, b, c, d]);
    let [e, f, g, h] = transpose_halves(simd, [e, f, g, h]);
    [
        cast(avx._mm256_permute2f128_ps::<LOW>(a, e)),
        cast(avx._mm256_permute2f128_ps::<LOW>(b, f)),
        cast(avx._mm256_permute2f128_ps::<LOW>(c, g)),
        cast(avx._mm256_permute2f128_ps::<LOW>(d, h)),
        cast(avx._mm256_permute2f128_ps::<HIGH>(a, e)),
        cast(avx._mm256_permute2f128_ps::<HIGH>(b, f)),
        cast(avx._mm256_permute2f128_ps::<HIGH>(c, g)),
        cast(avx._mm256_permute2f128_ps::<HIGH>(d, h)),
    ]
}

/// Transposes the 4×4 block in each half of four rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_halves(simd: V3, [a, b, c, d]: [[f32; 8]; 4]) -> [__m256; 4] {
    const LOW: i32 = 0x44;
    const HIGH: i32 = 0xee;
    let avx = simd.avx;
    let (a, b, c, d): (__m256, __m256, __m256, __m256) = (cast(a), cast(b), cast(c), cast(d));
    let (low, high) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b));
    let (other_low, other_high) = (avx._mm256_unpacklo_ps(c, d), avx._mm256_unpackhi_ps(c, d));
    [
        avx._mm256_shuffle_ps::<LOW>(low, other_low),
        avx._mm256_shuffle_ps::<HIGH>(low, other_low),
        avx._mm256_shuffle_ps::<LOW>(high, other_high),
        avx._mm256_shuffle_ps::<HIGH>(high, other_high),
    ]
}

/// Transposes `count` rows of `size` values, at a distance of `pitch`, into a panel
/// `[size, width]`, padded with zeros where `count` is less than `width`.
pub(super) fn transpose(
    rows: &[f32],
    pitch: usize,
    count: usize,
    size: usize,
    width: usize,
    panel: &mut [f32],
) {
    let panel = &mut panel[..size * width];
    if count < width {
        panel.fill(0.0);
    }
    let row = |k: usize| &rows[k * pitch..][..size];
    let mut group = 0;
    while group + 8 <= count {
        // Eight at a time, so that lines are written in longer contiguous pieces.
        let [a, b, c, d] = [0, 1, 2, 3].map(|k| row(group + k));
        let [e, f, g, h] = [4, 5, 6, 7].map(|k| row(group + k));
        for (p, line) in panel.chunks_exact_mut(width).enumerate() {
            let line = &mut line[group..group + 8];
            (line[0], line[1], line[2], line[3]) = (a[p], b[p], c[p], d[p]);
            (line[4], line[5], line[6], line[7]) = (e[p], f[p], g[p], h[p]);
        }
        group += 8;
    }
    for k in group..count {
        for (line, &value) in panel.chunks_exact_mut(width).zip(row(k)) {
            line[k] = value;
        }
    }
}

/// Writes the sums `[taps, width]`, starting at column `first`, to the lines: each line gets the
/// taps of one column, starting at index `start`.
pub(super) fn scatter(
    sums: &[f32],
    width: usize,
    first: usize,
    lines: &mut [&mut [f32]],
    start: usize,
) {
    let sums = sums.chunks_exact(width).enumerate();
    if let [a, b, c, d, e, f, g, h] = lines {
        // Eight at a time, so that a line of sums is read in longer contiguous pieces.
        for (tap, sums) in sums {
            let (p, s) = (start + tap, &sums[first..first + 8]);
            (a[p], b[p], c[p], d[p]) = (s[0], s[1], s[2], s[3]);
            (e[p], f[p], g[p], h[p]) = (s[4], s[5], s[6], s[7]);
        }
    } else {
        for (tap, sums) in sums {
            for (line, &sum) in lines.iter_mut().zip(&sums[first..]) {
                line[start + tap] = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::Shuffles;
    use crate::simd::dispatch;

    #[test]
    fn shuffles_reorder_values_as_documented() {
        struct Shuffle([[f32; 8]; 8]);
        impl WithSimd for Shuffle {
            type Output = ([[f32; 8]; 8], [f32; 8]);

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Self::Output {
                let shuffles = Shuffles::new();
                (shuffles.transpose(self.0), shuffles.evens([self.0[0], self.0[1]]))
            }
        }
        let square =
            std::array::from_fn(|row| std::array::from_fn(|column| (8 * row + column) as f32));
        let (transposed, evens) = dispatch(Shuffle(square));
        assert_eq!(evens, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
        for row in 0..8 {
            for column in 0..8 {
                assert_eq!(transposed[row][column], square[column][row]);
            }
        }
    }
}
