//! The max pooling after the stem of Hara et al.'s networks.

use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;

use crate::half;

/// Takes the maximum over 3×3×3 values with stride 2 and padding 1: `[N, C, T, H, W]` →
/// `[N, C, ⌈T/2⌉, ⌈H/2⌉, ⌈W/2⌉]`, computed in f32 and stored in the precision of `x`.
///
/// The maximum is taken over H and W first and then over T. Among equal values, the gradient may go to
/// a different one than in PyTorch; after a ReLU those are zeros, which let no gradient through.
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

/// Returns the sizes `[N, C, T, H, W]` after the pooling over H and W, and then over T.
pub(super) fn pooled([n, c, t, h, w]: [usize; 5]) -> [[usize; 5]; 2] {
    let [h, w] = [h, w].map(|size| size.div_ceil(2));
    [[n, c, t, h, w], [n, c, t.div_ceil(2), h, w]]
}
