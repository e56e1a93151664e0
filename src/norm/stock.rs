//! The fused passes by Burn's own operations, for devices that the kernels do not serve.

use burn::backend::Backend;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::op::Gradients;
use super::{Blend, Spec};

fn after<B: Backend>(y: FloatTensor<B>, residual: FloatTensor<B>, spec: &Spec) -> FloatTensor<B> {
    let y = if spec.residual { B::float_add(y, residual) } else { y };
    if spec.relu { B::relu(y) } else { y }
}

/// y, mean and biased variance.
pub(super) fn by_batch<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    residual: FloatTensor<B>,
    spec: &Spec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let result = B::batch_norm_train(x, gamma, beta, spec.epsilon);
    (after::<B>(result.output, residual, spec), result.mean, result.variance)
}

/// dy where the ReLU let it through.
fn masked<B: Backend>(y: Option<FloatTensor<B>>, dy: FloatTensor<B>) -> FloatTensor<B> {
    match y {
        Some(y) => B::relu_backward(y, dy),
        None => dy,
    }
}

pub(super) fn by_batch_backward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    [mean, variance]: [FloatTensor<B>; 2],
    y: Option<FloatTensor<B>>,
    dy: FloatTensor<B>,
    spec: &Spec,
) -> Gradients<B> {
    let g = masked::<B>(y, dy);
    let back = B::batch_norm_train_backward(x, gamma, mean, variance, spec.epsilon, g.clone());
    Gradients { x: back.x_grad, gamma: back.gamma_grad, beta: back.beta_grad, residual: g }
}

pub(super) fn by_running<B: Backend>(
    x: FloatTensor<B>,
    [gamma, beta, mean, variance]: [FloatTensor<B>; 4],
    residual: FloatTensor<B>,
    spec: &Spec,
) -> FloatTensor<B> {
    after::<B>(B::batch_norm(x, gamma, beta, mean, variance, spec.epsilon), residual, spec)
}

/// dx and the residual's gradient.
pub(super) fn by_running_backward<B: Backend>(
    [gamma, variance]: [FloatTensor<B>; 2],
    y: Option<FloatTensor<B>>,
    dy: FloatTensor<B>,
    spec: &Spec,
) -> [FloatTensor<B>; 2] {
    let g = masked::<B>(y, dy);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, spec.epsilon.into()));
    let scale = B::float_div(gamma, deviation);
    let channels = scale.shape()[0];
    let scale = B::float_reshape(scale, Shape::from([1, channels, 1, 1, 1]));
    [B::float_mul(g.clone(), scale), g]
}

/// The next running mean and variance.
pub(super) fn blend_running<B: Backend>(
    running: [FloatTensor<B>; 2],
    batch: [FloatTensor<B>; 2],
    blend: &Blend,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [keep, of_mean, of_variance] = blend.factors();
    let next = |running, batch, share: f32| {
        let kept = B::float_mul_scalar(running, keep.into());
        B::float_add(kept, B::float_mul_scalar(batch, share.into()))
    };
    let ([running_mean, running_variance], [mean, variance]) = (running, batch);
    (next(running_mean, mean, of_mean), next(running_variance, variance, of_variance))
}
