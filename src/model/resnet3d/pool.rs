//! The max pooling behind the stem of Hara et al.'s networks.

use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;

use crate::half;

/// Takes the maximum over 3×3×3 values at every second place, padding 1: `[N, C, T, H, W]` →
/// `[N, C, ⌈T/2⌉, ⌈H/2⌉, ⌈W/2⌉]`, computed in f32 and stored as `x` is.
///
/// It is the maximum over H and W and then over T. Of equal values another one than PyTorch's may get
/// the gradient; behind a ReLU these are zeros, which let no gradient through.
pub(super) fn max_pool(x: Tensor<5>) -> Tensor<5> {
    let is_half = half::is_half(&x);
    let [n, c, t, h, w] = x.dims();
    let planes = half::to_float(x).reshape([n * c * t, 1, h, w]);
    let over_plane = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
    let planes = max_pool2d(planes, over_plane);
    let [_, _, h, w] = planes.dims();
    let columns = planes.reshape([n * c, 1, t, h * w]);
    let over_time = MaxPoolOptions::new([3, 1]).with_stride([2, 1]).with_padding([1, 0]);
    let columns = max_pool2d(columns, over_time);
    let t = columns.dims()[2];
    half::stored(columns.reshape([n, c, t, h, w]), is_half)
}

/// The sizes `[N, C, T, H, W]` after the pooling over H and W, and after that over T.
pub(super) fn pooled([n, c, t, h, w]: [usize; 5]) -> [[usize; 5]; 2] {
    let [h, w] = [h, w].map(|size| size.div_ceil(2));
    [[n, c, t, h, w], [n, c, t.div_ceil(2), h, w]]
}
