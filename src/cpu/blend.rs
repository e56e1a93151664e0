//! Update of a running average towards new values.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::simd::dispatch;

/// Values per task.
const CHUNK: usize = 1 << 15;

/// Computes `old += share · (new − old)`; a finite value that already equals the new one does not
/// change (−0 becomes 0).
///
/// # Panics
/// If the slices' lengths differ.
pub fn blend(old: &mut [f32], new: &[f32], share: f32) {
    assert_eq!(old.len(), new.len(), "both slices must have the same length");
    old.par_chunks_mut(CHUNK)
        .zip(new.par_chunks(CHUNK))
        .for_each(|(old, new)| dispatch(Blend { old, new, share }));
}

struct Blend<'a> {
    old: &'a mut [f32],
    new: &'a [f32],
    share: f32,
}

impl WithSimd for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (old, new) in self.old.iter_mut().zip(self.new) {
            *old += self.share * (new - *old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_blended_once() {
        for length in [0, 1, 31, CHUNK + 17] {
            let mut old: Vec<f32> = (0..length).map(|index| index as f32).collect();
            let new: Vec<f32> = (0..length).map(|index| index as f32 + 4.0).collect();
            blend(&mut old, &new, 0.25);
            assert!(old.iter().enumerate().all(|(i, old)| *old == i as f32 + 1.0));
        }
    }
}
