//! 3D convolution on the CPU: the forward pass, and the gradients of input and weights.
//!
//! A tile of columns of the input is staged in cache (padding and strides resolved). Where rows are
//! long, register-blocked kernels run over shifted views of it (`gather`); where rows are short, or
//! the kernel extends along time only, the views are packed for a plain matrix product (`packed`).
//! 3×3 windows with stride 1 use Winograd's algorithm, which takes fewer products, where that is
//! faster (`winograd`). Weight gradients are sums over positions (`correlation`), computed directly
//! over all taps or by Winograd's algorithm. There is no im2col buffer in memory. Taps that only
//! see padding in time are skipped, which for the short clips at the end of a 3D ResNet saves up to
//! two thirds of the work.

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

pub use scratch::release_scratch;
pub use shape::ConvShape;
pub use weight_gradient::weight_gradient;

/// Computes the output
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

/// Computes the input gradient: `dx[n,c,…]` = Σ of `w[k,c,tap] · dy[n,k,…]` over the outputs y and
/// taps that read `x[n,c,…]`.
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

/// Planes up to this size may be treated as one long row.
const LONG_ROW: usize = 512;

/// Returns the same convolution with each plane reshaped, if the kernel has no extent within the
/// plane: to rows of [`LANES`] positions if the plane's size is a multiple of that, else to one row
/// if that is not too long.
fn flattened(shape: &ConvShape) -> ConvShape {
    let [_, h, w] = shape.input;
    let pointwise = |d| shape.kernel[d] == 1 && shape.stride[d] == 1 && shape.padding[d] == 0;
    let mut shape = *shape;
    if pointwise(1) && pointwise(2) {
        if (h * w).is_multiple_of(LANES) {
            (shape.input[1], shape.input[2]) = (h * w / LANES, LANES);
        } else if h * w <= LONG_ROW {
            (shape.input[1], shape.input[2]) = (1, h * w);
        }
    }
    shape
}

/// Runs `work` on one of the pool's threads. A thread outside the pool would have to be woken to
/// distribute the next tasks each time the threads synchronise.
fn in_pool(work: impl FnOnce() + Send) {
    rayon::scope(|_| work());
}

fn check(shape: &ConvShape, x: usize, w: usize, y: usize) {
    assert_eq!(x, shape.input_len(), "the length of the input must fit the shape");
    assert_eq!(w, shape.weight_len(), "the length of the weights must fit the shape");
    assert_eq!(y, shape.output_len(), "the length of the output must fit the shape");
}
