//! What the ReLU behind a normalisation does to values that are no numbers.

use super::*;
use crate::common::tensors::tensor;

/// A network that went wrong is noticed by its scores, so NaN passes a ReLU; what is below 0 does not.
#[test]
fn norm_and_relu_keep_nan() {
    let nan = [f32::NAN, f32::from_bits(0xffc0_0000)];
    for device in [Some(Device::flex()), adapter::device()].into_iter().flatten() {
        // Four values at a time, and one.
        for (plane, half) in [(8, false), (7, false), (8, true), (7, true)] {
            let mut x = vec![-2.0, 3.0, nan[0], f32::INFINITY, -0.0, nan[1], f32::NEG_INFINITY];
            x.resize(plane, -1.0);
            let channel = |value: f32| Tensor::<1>::full([1], value, &device);
            let run = |added: bool| {
                let x = tensor(&x, [1, 1, 1, 1, plane], &device);
                let x = if half { to_half(x) } else { x };
                let after = if added { After::AddRelu(x.zeros_like()) } else { After::Relu };
                let affine = Affine { gamma: channel(1.0), beta: channel(0.0), epsilon: 0.0 };
                values(to_float(by_running(x, affine, channel(0.0), channel(1.0), after)))
            };
            for y in [run(false), run(true)] {
                assert_eq!([y[0], y[1], y[4], y[6]], [0.0, 3.0, 0.0, 0.0], "{plane}, {half}");
                assert!(
                    y[2].is_nan() && y[5].is_nan() && y[3] >= 65504.0,
                    "{plane}, {half}: {y:?}"
                );
            }
        }
    }
}
