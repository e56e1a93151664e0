//! Transposition between `[channels, positions]` and `[positions, channels]`.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256;

#[cfg(target_arch = "x86_64")]
use pulp::{cast, x86::V3};

/// Values in another order, by shuffles where the machine has them: compilers read columns and every second
/// value one at a time, or gather them, at several times the cost.
///
/// Meant for code that is compiled for the machine's vectors.
#[derive(Clone, Copy)]
pub(super) struct Shuffles {
    #[cfg(target_arch = "x86_64")]
    simd: Option<V3>,
}

impl Shuffles {
    /// What this machine has.
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            simd: V3::try_new(),
        }
    }

    /// Rows as columns.
    #[inline(always)]
    pub(super) fn turn(self, rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.simd {
            return turn_by_shuffles(simd, rows);
        }
        std::array::from_fn(|column| rows.map(|row| row[column]))
    }

    /// Every second value of two rows, from the first on.
    #[inline(always)]
    pub(super) fn evens(self, rows: [[f32; 8]; 2]) -> [f32; 8] {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.simd {
            return evens_by_shuffles(simd, rows);
        }
        std::array::from_fn(|index| rows[index / 4][index % 4 * 2])
    }
}

/// The even values of each half, then halves.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn evens_by_shuffles(simd: V3, [low, high]: [[f32; 8]; 2]) -> [f32; 8] {
    const EVEN: i32 = 0b10_00_10_00;
    const HALVES: i32 = 0b11_01_10_00;
    let evens = simd.avx._mm256_shuffle_ps::<EVEN>(cast(low), cast(high));
    cast(simd.avx2._mm256_permute4x64_pd::<HALVES>(cast(evens)))
}

/// Fours of each half, then halves.
///
/// Without closures, which would not be compiled for the vectors.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn_by_shuffles(simd: V3, rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    const LOW: i32 = 0x20;
    const HIGH: i32 = 0x31;
    let avx = simd.avx;
    let [a, b, c, d, e, f, g, h] = rows;
    let [a, b, c, d] = fours(simd, [a, b, c, d]);
    let [e, f, g, h] = fours(simd, [e, f, g, h]);
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

/// In each half of four rows, rows as columns.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fours(simd: V3, [a, b, c, d]: [[f32; 8]; 4]) -> [__m256; 4] {
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

/// Some rows of `size` values, `pitch` apart, as a panel `[size, width]`, filled up with zeros where
/// there are fewer rows.
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
        // Eight at a time, so that lines are written in long pieces.
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

/// Writes the sums `[taps, width]` from column `first` on to `place` and following of each line.
pub(super) fn scatter(
    sums: &[f32],
    width: usize,
    first: usize,
    lines: &mut [&mut [f32]],
    place: usize,
) {
    let sums = sums.chunks_exact(width).enumerate();
    if let [a, b, c, d, e, f, g, h] = lines {
        // Eight at a time, so that a line of sums is read in long pieces.
        for (tap, sums) in sums {
            let (p, s) = (place + tap, &sums[first..first + 8]);
            (a[p], b[p], c[p], d[p]) = (s[0], s[1], s[2], s[3]);
            (e[p], f[p], g[p], h[p]) = (s[4], s[5], s[6], s[7]);
        }
    } else {
        for (tap, sums) in sums {
            for (line, &sum) in lines.iter_mut().zip(&sums[first..]) {
                line[place + tap] = sum;
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
    fn shuffles_put_values_in_their_places() {
        struct Shuffle([[f32; 8]; 8]);
        impl WithSimd for Shuffle {
            type Output = ([[f32; 8]; 8], [f32; 8]);

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Self::Output {
                let shuffles = Shuffles::new();
                (shuffles.turn(self.0), shuffles.evens([self.0[0], self.0[1]]))
            }
        }
        let square =
            std::array::from_fn(|row| std::array::from_fn(|column| (8 * row + column) as f32));
        let (turned, evens) = dispatch(Shuffle(square));
        assert_eq!(evens, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
        for row in 0..8 {
            for column in 0..8 {
                assert_eq!(turned[row][column], square[column][row]);
            }
        }
    }
}
