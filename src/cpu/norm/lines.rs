//! The loops over a line of values that batch normalisation consists of, generic over the machine's
//! vectors.

use pulp::{Simd, WithSimd, as_arrays};

/// Number of independent vector sums, so that additions need not wait for each other.
const SUMS: usize = 4;

/// Computes Σ x.
pub(super) struct Sum<'a> {
    pub x: &'a [f32],
}

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (whole, rest) = S::as_simd_f32s(self.x);
        let (groups, single) = as_arrays::<SUMS, _>(whole);
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for group in groups {
            for i in 0..SUMS {
                sums[i] = simd.add_f32s(sums[i], group[i]);
            }
        }
        for &x in single {
            sums[0] = simd.add_f32s(sums[0], x);
        }
        total(simd, sums) + rest.iter().sum::<f32>()
    }
}

/// Computes Σ (x − centre) and Σ (x − centre)².
pub(super) struct Centred<'a> {
    pub x: &'a [f32],
    pub centre: f32,
}

impl WithSimd for Centred<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        let (whole, rest) = S::as_simd_f32s(self.x);
        let (groups, single) = as_arrays::<SUMS, _>(whole);
        let centre = simd.splat_f32s(self.centre);
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        let mut squares = sums;
        for group in groups {
            for i in 0..SUMS {
                let x = simd.sub_f32s(group[i], centre);
                sums[i] = simd.add_f32s(sums[i], x);
                squares[i] = simd.mul_add_e_f32s(x, x, squares[i]);
            }
        }
        for &x in single {
            let x = simd.sub_f32s(x, centre);
            sums[0] = simd.add_f32s(sums[0], x);
            squares[0] = simd.mul_add_e_f32s(x, x, squares[0]);
        }
        let (mut sum, mut square) = (total(simd, sums), total(simd, squares));
        for x in rest.iter().map(|x| x - self.centre) {
            sum += x;
            square += x * x;
        }
        (sum, square)
    }
}

/// Computes y = max(0, (x − mean)·scale + shift + residual), with the maximum only if `relu` is
/// set.
pub(super) struct Apply<'a> {
    pub x: &'a [f32],
    pub residual: Option<&'a [f32]>,
    pub mean: f32,
    pub scale: f32,
    pub shift: f32,
    pub relu: bool,
    pub y: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        let mean = simd.splat_f32s(self.mean);
        let scale = simd.splat_f32s(self.scale);
        let shift = simd.splat_f32s(self.shift);
        let relu = self.relu;
        match self.residual {
            Some(residual) => map(
                simd,
                [self.x, residual],
                self.y,
                #[inline(always)]
                |[x, residual], _| {
                    let y = simd.mul_add_e_f32s(simd.sub_f32s(x, mean), scale, shift);
                    let y = simd.add_f32s(y, residual);
                    if relu { positive(simd, y, y, zero) } else { y }
                },
            ),
            None => map(
                simd,
                [self.x],
                self.y,
                #[inline(always)]
                |[x], _| {
                    let y = simd.mul_add_e_f32s(simd.sub_f32s(x, mean), scale, shift);
                    if relu { positive(simd, y, y, zero) } else { y }
                },
            ),
        }
    }
}

/// Writes g = dy where y > 0, else 0 (without y, g = dy everywhere), and returns Σ g and
/// Σ g·(x − mean).
pub(super) struct Masked<'a> {
    pub dy: &'a [f32],
    pub y: Option<&'a [f32]>,
    pub x: &'a [f32],
    pub mean: f32,
    pub g: &'a mut [f32],
}

impl WithSimd for Masked<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        let zero = simd.splat_f32s(0.0);
        let mean = simd.splat_f32s(self.mean);
        let (mut sums, mut products) = ([zero; 2], [zero; 2]);
        match self.y {
            Some(y) => map(
                simd,
                [self.x, self.dy, y],
                self.g,
                #[inline(always)]
                |[x, dy, y], _| {
                    let g = positive(simd, y, dy, zero);
                    add(simd, &mut sums, &mut products, simd.sub_f32s(x, mean), g);
                    g
                },
            ),
            None => map(
                simd,
                [self.x, self.dy],
                self.g,
                #[inline(always)]
                |[x, g], _| {
                    add(simd, &mut sums, &mut products, simd.sub_f32s(x, mean), g);
                    g
                },
            ),
        }
        let sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
        (sum, simd.reduce_sum_f32s(simd.add_f32s(products[0], products[1])))
    }
}

/// Adds g and x·g, alternating between two sums each, so that an addition need not wait for the
/// previous one.
#[inline(always)]
fn add<S: Simd>(
    simd: S,
    sums: &mut [S::f32s; 2],
    products: &mut [S::f32s; 2],
    x: S::f32s,
    g: S::f32s,
) {
    *sums = [sums[1], simd.add_f32s(sums[0], g)];
    *products = [products[1], simd.mul_add_e_f32s(x, g, products[0])];
}

/// Returns 0 where y ≤ 0, else `value`; NaN in y also gives `value`.
#[inline(always)]
fn positive<S: Simd>(simd: S, y: S::f32s, value: S::f32s, zero: S::f32s) -> S::f32s {
    // Selects as u32, since `select_f32s` is not always inlined and a call would cost more than the
    // rest of the loop.
    simd.transmute_f32s_u32s(simd.select_u32s(
        simd.less_than_or_equal_f32s(y, zero),
        simd.transmute_u32s_f32s(zero),
        simd.transmute_u32s_f32s(value),
    ))
}

/// Computes dx = scale·(g − shift − (x − mean)·slope); if `g` is absent, `dx` holds it on entry.
pub(super) struct Reduce<'a> {
    pub x: &'a [f32],
    pub g: Option<&'a [f32]>,
    pub mean: f32,
    pub shift: f32,
    pub slope: f32,
    pub scale: f32,
    pub dx: &'a mut [f32],
}

impl WithSimd for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mean = simd.splat_f32s(self.mean);
        let shift = simd.splat_f32s(self.shift);
        let slope = simd.splat_f32s(-self.slope);
        let scale = simd.splat_f32s(self.scale);
        match self.g {
            Some(g) => map(
                simd,
                [self.x, g],
                self.dx,
                #[inline(always)]
                |[x, g], _| {
                    let g = simd.sub_f32s(g, shift);
                    simd.mul_f32s(scale, simd.mul_add_e_f32s(simd.sub_f32s(x, mean), slope, g))
                },
            ),
            None => map(
                simd,
                [self.x],
                self.dx,
                #[inline(always)]
                |[x], g| {
                    let g = simd.sub_f32s(g, shift);
                    simd.mul_f32s(scale, simd.mul_add_e_f32s(simd.sub_f32s(x, mean), slope, g))
                },
            ),
        }
    }
}

#[inline(always)]
fn total<S: Simd>(simd: S, sums: [S::f32s; SUMS]) -> f32 {
    let [a, b, c, d] = sums;
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

/// Computes out = f(lines, out) vector by vector, with the last vector padded with zeros. The lines
/// are at least as long as `out`.
#[inline(always)]
fn map<S: Simd, const N: usize>(
    simd: S,
    lines: [&[f32]; N],
    out: &mut [f32],
    mut f: impl FnMut([S::f32s; N], S::f32s) -> S::f32s,
) {
    let length = out.len();
    let (out, out_rest) = S::as_mut_simd_f32s(out);
    let mut whole = [S::as_simd_f32s(&[]).0; N];
    let mut rest = [&[] as &[f32]; N];
    for n in 0..N {
        (whole[n], rest[n]) = S::as_simd_f32s(&lines[n][..length]);
    }
    let mut values = [simd.splat_f32s(0.0); N];
    for (i, out) in out.iter_mut().enumerate() {
        for n in 0..N {
            values[n] = whole[n][i];
        }
        *out = f(values, *out);
    }
    if !out_rest.is_empty() {
        for n in 0..N {
            values[n] = simd.partial_load_f32s(rest[n]);
        }
        let old = simd.partial_load_f32s(out_rest);
        simd.partial_store_f32s(out_rest, f(values, old));
    }
}
