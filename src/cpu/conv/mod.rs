//! 3D convolution on the CPU: forward, and the gradients of input and weights.
//!
//! A tile of columns of the input is staged in cache (padding and strides resolved). Where rows are
//! long, register-blocked kernels run over shifted views of it (`gather`); where they are short,
//! or taps only look along time, the views are packed for a plain product (`packed`). Windows of
//! 3×3 that move by one take fewer products where that pays (`winograd`). Gradients of weights are
//! sums over positions (`correlation`), over all taps or by Winograd. Nothing is unrolled into
//! memory. Taps that only see padding in time are left out, which for the short clips at the end of
//! a 3D ResNet is up to two thirds of the work.

mod axis;
mod chunk;
mod correlation;
mod cut;
mod finish;
mod gather;
mod kernel;
mod layout;
mod packed;
mod panels;
mod product;
mod recipe;
mod scratch;
mod shape;
mod share;
mod stage;
mod tiles;
mod transpose;
mod weight_gradient;
mod winograd;

use axis::Axis;
use gather::Gather;
use kernel::LANES;
use panels::WeightOrder;

pub use shape::ConvShape;
pub use weight_gradient::weight_gradient;

/// `y[n,k,t,h,w] = Σ_{c,i,j,l} w[k,c,i,j,l] · x[n,c,t·st−pt+i, h·sh−ph+j, w·sw−pw+l]`.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn forward(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    check(shape, x.len(), w.len(), y.len());
    in_pool(|| forward_gather(shape).run(x, w, y));
}

fn forward_gather(shape: &ConvShape) -> Gather {
    let order = WeightOrder {
        outputs: shape.out_channels,
        inputs: shape.in_channels,
        output_step: shape.in_channels * shape.taps(),
        input_step: shape.taps(),
        kernel: shape.kernel,
    };
    Gather { axes: forward_axes(shape), clips: shape.batch, order }
}

/// `dx[n,c,…]` = Σ of `w[k,c,tap] · dy[n,k,…]` over the outputs y and taps that read `x[n,c,…]`.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn input_gradient(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    check(shape, dx.len(), w.len(), dy.len());
    in_pool(|| input_gradient_gather(shape).run(dy, w, dx));
}

fn input_gradient_gather(shape: &ConvShape) -> Gather {
    let order = WeightOrder {
        outputs: shape.in_channels,
        inputs: shape.out_channels,
        output_step: shape.taps(),
        input_step: shape.in_channels * shape.taps(),
        kernel: shape.kernel,
    };
    let shape = flattened(shape);
    let output = shape.output();
    let axes = std::array::from_fn(|d| {
        let (kernel, stride, padding) = (shape.kernel[d], shape.stride[d], shape.padding[d]);
        Axis::transposed(output[d], shape.input[d], kernel, stride, padding)
    });
    Gather { axes, clips: shape.batch, order }
}

fn forward_axes(shape: &ConvShape) -> [Axis; 3] {
    let shape = flattened(shape);
    let output = shape.output();
    std::array::from_fn(|d| {
        let (kernel, stride, padding) = (shape.kernel[d], shape.stride[d], shape.padding[d]);
        Axis::forward(shape.input[d], output[d], kernel, stride, padding)
    })
}

/// Planes up to this size may become one long row.
const LONG_ROW: usize = 512;

/// The same convolution on planes of another form, where a kernel has no extent along the plane:
/// rows of whole vectors if the plane has that many positions, else one row if that is not too
/// long.
fn flattened(shape: &ConvShape) -> ConvShape {
    let [_, h, w] = shape.input;
    let along = |d| shape.kernel[d] == 1 && shape.stride[d] == 1 && shape.padding[d] == 0;
    let mut shape = *shape;
    if along(1) && along(2) {
        if (h * w).is_multiple_of(LANES) {
            (shape.input[1], shape.input[2]) = (h * w / LANES, LANES);
        } else if h * w <= LONG_ROW {
            (shape.input[1], shape.input[2]) = (1, h * w);
        }
    }
    shape
}

/// Runs `work` on one of the pool's threads. Each time that threads have to wait for each other, a thread
/// outside the pool would have to be woken to hand out the next tasks.
fn in_pool(work: impl FnOnce() + Send) {
    rayon::scope(|_| work());
}

fn check(shape: &ConvShape, x: usize, w: usize, y: usize) {
    assert_eq!(x, shape.input_len(), "values in the input");
    assert_eq!(w, shape.weight_len(), "values in the weights");
    assert_eq!(y, shape.output_len(), "values in the output");
}
