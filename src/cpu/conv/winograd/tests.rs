//! Comparison with direct sums over all taps in f64.

use std::hash::{BuildHasher as _, RandomState};

use super::*;
use crate::conv::correlation::{self, panels};
use crate::conv::kernel::panel_widths;
use crate::conv::{ConvShape, forward_axes, forward_gather, input_gradient_gather};

/// Returns values in −1..1 that differ from run to run.
fn random(length: usize) -> Vec<f32> {
    let state = RandomState::new();
    (0..length).map(|index| (state.hash_one(index) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Returns `Σ w·x` and `Σ |w·x|` of every output, by the definition of [`crate::conv::forward`].
fn sums(shape: &ConvShape, x: &[f32], w: &[f32]) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); shape.output_len()];
    each(shape, |y, xi, wi| add(&mut sums[y], x[xi], w[wi]));
    sums
}

/// Like [`sums`], for the gradient of every input.
fn gradients(shape: &ConvShape, dy: &[f32], w: &[f32]) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); shape.input_len()];
    each(shape, |y, xi, wi| add(&mut sums[xi], dy[y], w[wi]));
    sums
}

/// Like [`sums`], for the gradient of every weight.
fn weight_sums(shape: &ConvShape, x: &[f32], dy: &[f32]) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); shape.weight_len()];
    each(shape, |y, xi, wi| add(&mut sums[wi], x[xi], dy[y]));
    sums
}

fn weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let axes = forward_axes(shape);
    let panels = panels(shape.out_channels, &panel_widths(shape.out_channels));
    let plan = WeightWinograd::new(shape, &axes, &panels, [x, dy]);
    let mut dw = vec![f32::NAN; shape.weight_len()];
    correlation::run(&plan.expect("the window has 3×3 taps"), shape, &panels, &mut dw);
    dw
}

fn add((sum, size): &mut (f64, f64), a: f32, b: f32) {
    let product = f64::from(a) * f64::from(b);
    *sum += product;
    *size += product.abs();
}

/// Calls `visit` with the indices in y, x and w of every product.
fn each(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let ([t, h, w], [ot, oh, ow]) = (shape.input, shape.output());
    let [kt, kh, kw] = shape.kernel;
    let inside = |out: usize, tap: usize, d: usize| {
        (out * shape.stride[d] + tap)
            .checked_sub(shape.padding[d])
            .filter(|at| *at < shape.input[d])
    };
    for (n, k) in pairs(shape.batch, shape.out_channels) {
        for (c, o) in pairs(shape.in_channels, ot) {
            for (oy, ox) in pairs(oh, ow) {
                for (i, (j, l)) in (0..kt).flat_map(|i| pairs(kh, kw).map(move |tap| (i, tap))) {
                    let at = (inside(o, i, 0), inside(oy, j, 1), inside(ox, l, 2));
                    let (Some(from), Some(row), Some(column)) = at else { continue };
                    let y = (((n * shape.out_channels + k) * ot + o) * oh + oy) * ow + ox;
                    let x = (((n * shape.in_channels + c) * t + from) * h + row) * w + column;
                    let weight = (((k * shape.in_channels + c) * kt + i) * kh + j) * kw + l;
                    visit(y, x, weight);
                }
            }
        }
    }
}

fn pairs(first: usize, second: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..first).flat_map(move |a| (0..second).map(move |b| (a, b)))
}

/// Returns the largest error relative to the largest `Σ |w·x|` of any output. Values of a tile
/// share their rounding errors, so an output with few products has those of its neighbours.
fn error(sums: &[(f64, f64)], values: &[f32]) -> f64 {
    assert_eq!(sums.len(), values.len());
    let largest = sums.iter().fold(0.0, |largest: f64, (_, size)| largest.max(*size));
    let errors = sums.iter().zip(values).map(|((sum, _), value)| {
        let error = (sum - f64::from(*value)).abs() / largest;
        if error.is_nan() { f64::INFINITY } else { error }
    });
    errors.fold(0.0, f64::max)
}

/// Shapes `[N, C, K, T, H, W, kt, st, pt, ph, pw]` with windows of kt×3×3.
const SHAPES: [[usize; 11]; 9] = [
    [1, 1, 1, 1, 3, 3, 1, 1, 0, 1, 1],
    [2, 5, 9, 3, 7, 7, 1, 1, 0, 1, 1],
    [2, 8, 16, 4, 14, 13, 3, 1, 1, 1, 1],
    [1, 3, 7, 5, 28, 57, 3, 1, 1, 1, 1],
    [3, 17, 11, 2, 5, 40, 3, 1, 1, 0, 1],
    [2, 4, 6, 5, 9, 16, 2, 2, 1, 1, 0],
    [1, 2, 25, 6, 112, 6, 1, 2, 0, 2, 2],
    [2, 33, 8, 1, 4, 4, 3, 1, 1, 0, 0],
    [1, 70, 65, 2, 31, 33, 3, 1, 1, 1, 1],
];

fn shapes() -> impl Iterator<Item = ConvShape> {
    SHAPES.into_iter().map(|[n, c, k, t, h, w, kt, st, pt, ph, pw]| ConvShape {
        batch: n,
        in_channels: c,
        out_channels: k,
        input: [t, h, w],
        kernel: [kt, 3, 3],
        stride: [st, 1, 1],
        padding: [pt, ph, pw],
    })
}

#[test]
fn all_passes_agree_with_f64_on_odd_shapes() {
    for shape in shapes() {
        let (x, w, dy) =
            (random(shape.input_len()), random(shape.weight_len()), random(shape.output_len()));
        let gather = forward_gather(&shape);
        let plan = Winograd::new(&gather).expect("the window has 3×3 taps");
        let mut y = vec![f32::NAN; shape.output_len()];
        plan.run(&x, &w, &mut y);
        let worst = error(&sums(&shape, &x, &w), &y);
        assert!(worst < 1e-6, "forward {shape:?}: {worst:e}");

        // With a stride along time there are several phases, which read the same planes.
        let gather = input_gradient_gather(&shape);
        let plan = Winograd::new(&gather).expect("the window has 3×3 taps");
        let mut dx = vec![f32::NAN; shape.input_len()];
        plan.run(&dy, &w, &mut dx);
        let worst = error(&gradients(&shape, &dy, &w), &dx);
        assert!(worst < 1e-6, "input gradient {shape:?}: {worst:e}");

        let dw = weight_gradient(&shape, &x, &dy);
        let worst = error(&weight_sums(&shape, &x, &dy), &dw);
        assert!(worst < 1e-6, "weight gradient {shape:?}: {worst:e}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for shape in shapes() {
        let (x, w) = (random(shape.input_len()), random(shape.weight_len()));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut y = vec![0.0; shape.output_len()];
            let gather = forward_gather(&shape);
            let plan = Winograd::new(&gather).expect("the window has 3×3 taps");
            let pool = pool.expect("a pool of threads");
            pool.install(|| plan.run(&x, &w, &mut y));
            let dw = pool.install(|| weight_gradient(&shape, &x, &y));
            y.into_iter().chain(dw).map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(7), "{shape:?}");
    }
}

#[test]
fn other_windows_and_strides_have_no_winograd_plan() {
    let shape = |kernel, stride, padding| ConvShape {
        batch: 1,
        in_channels: 2,
        out_channels: 2,
        input: [4, 9, 9],
        kernel,
        stride,
        padding,
    };
    for (kernel, stride) in [
        ([1, 1, 1], [1, 1, 1]),
        ([3, 1, 1], [1, 1, 1]),
        ([1, 3, 3], [1, 2, 2]),
        ([1, 3, 3], [1, 1, 2]),
        ([3, 5, 5], [1, 1, 1]),
    ] {
        let shape = shape(kernel, stride, [0; 3]);
        assert!(Winograd::new(&forward_gather(&shape)).is_none(), "{kernel:?} {stride:?}");
        assert!(Winograd::new(&input_gradient_gather(&shape)).is_none(), "{kernel:?} {stride:?}");
    }
}
