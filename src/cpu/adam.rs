//! The optimizer step on the CPU: AdamW (Loshchilov & Hutter 2019), one pass over parameter,
//! gradient and both moments.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::simd::dispatch;

/// Values per task. Fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 15;

/// Values that are summed in f32 before being added to an f64 sum.
const BLOCK: usize = 512;

/// Updates the parameters `p` and the moments `m` and `v` from the gradient `g`.
///
/// # Panics
/// If the slices' lengths differ.
pub fn update(step: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert_eq!([g.len(), m.len(), v.len()], [p.len(); 3], "all slices must have the same length");
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
        .for_each(|((p, g), (m, v))| dispatch(Update { step, p, g, m, v }));
}

/// Returns Σ x² in f64; the result is bitwise independent of the number of threads.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let chunks: Vec<f64> = x
        .par_chunks(CHUNK)
        .map(|chunk| chunk.chunks(BLOCK).map(|x| dispatch(Squares { x }) as f64).sum())
        .collect();
    chunks.iter().sum()
}

/// Constants of one step, precomputed for the loop. With g the gradient times `scale`, plus `l2`·p:
/// m' = β₁·m + (1 − β₁)·g, v' = β₂·v + (1 − β₂)·g², p' = `keep`·p − `size`·m' / (√v'/`root` + ε).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// 1 − learning rate·weight decay.
    pub keep: f32,
    /// L2 penalty: weight decay that is added to the gradient.
    pub l2: f32,
    /// β₁.
    pub beta1: f32,
    /// 1 − β₁.
    pub gain1: f32,
    /// β₂.
    pub beta2: f32,
    /// 1 − β₂.
    pub gain2: f32,
    /// Step size, learning rate/(1 − β₁ᵗ).
    pub size: f32,
    /// √(1 − β₂ᵗ).
    pub root: f32,
    /// 1/`root`, rounded separately; the shader multiplies by it instead of dividing.
    pub inverse_root: f32,
    /// ε.
    pub epsilon: f32,
    /// Factor that the gradient is multiplied by first.
    pub scale: f32,
}

struct Update<'a> {
    step: Factors,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let step = Vectors::<S>::new(simd, &self.step);
        let (p, p_rest) = S::as_mut_simd_f32s(self.p);
        let (g, g_rest) = S::as_simd_f32s(self.g);
        let (m, m_rest) = S::as_mut_simd_f32s(self.m);
        let (v, v_rest) = S::as_mut_simd_f32s(self.v);
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(&mut *m).zip(&mut *v) {
            (*p, *m, *v) = step.update(simd, *p, *g, *m, *v);
        }
        if !p_rest.is_empty() {
            let (p, m, v) = step.update(
                simd,
                simd.partial_load_f32s(p_rest),
                simd.partial_load_f32s(g_rest),
                simd.partial_load_f32s(m_rest),
                simd.partial_load_f32s(v_rest),
            );
            simd.partial_store_f32s(p_rest, p);
            simd.partial_store_f32s(m_rest, m);
            simd.partial_store_f32s(v_rest, v);
        }
    }
}

/// [`Factors`], each broadcast to all lanes of a vector; `size` is negated.
struct Vectors<S: Simd> {
    keep: S::f32s,
    l2: S::f32s,
    beta1: S::f32s,
    gain1: S::f32s,
    beta2: S::f32s,
    gain2: S::f32s,
    size: S::f32s,
    root: S::f32s,
    epsilon: S::f32s,
    scale: S::f32s,
}

impl<S: Simd> Vectors<S> {
    #[inline(always)]
    fn new(simd: S, step: &Factors) -> Self {
        Self {
            keep: simd.splat_f32s(step.keep),
            l2: simd.splat_f32s(step.l2),
            beta1: simd.splat_f32s(step.beta1),
            gain1: simd.splat_f32s(step.gain1),
            beta2: simd.splat_f32s(step.beta2),
            gain2: simd.splat_f32s(step.gain2),
            size: simd.splat_f32s(-step.size),
            root: simd.splat_f32s(step.root),
            epsilon: simd.splat_f32s(step.epsilon),
            scale: simd.splat_f32s(step.scale),
        }
    }

    /// Returns the new p, m and v.
    #[inline(always)]
    fn update(
        &self,
        simd: S,
        p: S::f32s,
        g: S::f32s,
        m: S::f32s,
        v: S::f32s,
    ) -> (S::f32s, S::f32s, S::f32s) {
        let g = simd.mul_add_e_f32s(p, self.l2, simd.mul_f32s(g, self.scale));
        let m = simd.mul_add_e_f32s(m, self.beta1, simd.mul_f32s(self.gain1, g));
        let square = simd.mul_f32s(g, g);
        let v = simd.mul_add_e_f32s(v, self.beta2, simd.mul_f32s(self.gain2, square));
        let denominator = simd.add_f32s(simd.div_f32s(simd.sqrt_f32s(v), self.root), self.epsilon);
        let p = simd.mul_f32s(p, self.keep);
        (simd.mul_add_e_f32s(self.size, simd.div_f32s(m, denominator), p), m, v)
    }
}

struct Squares<'a> {
    x: &'a [f32],
}

impl WithSimd for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (whole, rest) = S::as_simd_f32s(self.x);
        // Alternates between two sums, so that an addition need not wait for the previous one.
        let mut sums = [simd.splat_f32s(0.0); 2];
        for &x in whole {
            sums = [sums[1], simd.mul_add_e_f32s(x, x, sums[0])];
        }
        let sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
        sum + rest.iter().map(|x| x * x).sum::<f32>()
    }
}
