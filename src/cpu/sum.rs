//! Addition of two tensors.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::simd::dispatch;

/// Values per task.
const CHUNK: usize = 1 << 15;

/// Computes `sum += other`.
///
/// # Panics
/// If the slices' lengths differ.
pub fn add(sum: &mut [f32], other: &[f32]) {
    assert_eq!(sum.len(), other.len(), "both slices must have the same length");
    sum.par_chunks_mut(CHUNK)
        .zip(other.par_chunks(CHUNK))
        .for_each(|(sum, other)| dispatch(Add { sum, other }));
}

struct Add<'a> {
    sum: &'a mut [f32],
    other: &'a [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (sum, other) in self.sum.iter_mut().zip(self.other) {
            *sum += other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_added_once() {
        for length in [0, 1, 31, CHUNK - 1, CHUNK, 2 * CHUNK + 17] {
            let mut sum: Vec<f32> = (0..length).map(|index| index as f32).collect();
            let other: Vec<f32> = (0..length).map(|index| 2.0 * index as f32 + 0.5).collect();
            add(&mut sum, &other);
            assert!(sum.iter().enumerate().all(|(i, sum)| *sum == 3.0 * i as f32 + 0.5));
        }
    }
}
