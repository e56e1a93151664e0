//! Starts a backward pass from a given gradient. Burn starts it from a tensor of ones of the result's
//! size: creating the ones and multiplying by them would take extra passes over all values.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use crate::kernels::{host, launch};

#[backend_extension(Autodiff, Cube, Flex)]
trait GivenGradient: Backend {
    /// Returns a value `[1]` whose backward pass gives `y` the gradient `dy`, which has the size of `y`.
    fn with_gradient(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Returns a value `[1]` whose `backward` gives `y` the gradient `dy`. `dy` has the size of `y` and the
/// element type of its gradient; the value itself is meaningless.
pub(crate) fn with_gradient<const D: usize>(y: Tensor<D>, dy: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::with_gradient(y.into_dispatch(), dy.into_dispatch()))
}

impl<B: GivenGradient, C: CheckpointStrategy> GivenGradient for Autodiff<B, C> {
    fn with_gradient(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Given;

        impl<B: GivenGradient> Backward<B, 1> for Given {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                _ = grads.consume::<B>(&ops.node);
                if let [Some(y)] = ops.parents {
                    grads.register::<B>(y.id, ops.state);
                }
            }
        }

        let value = B::with_gradient(y.clone().into_primitive(), dy.clone().into_primitive());
        match Given.prepare::<C>([y.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dy.into_primitive(), value),
            OpsKind::UnTracked(prep) => prep.finish(value),
        }
    }
}

impl GivenGradient for Flex {
    fn with_gradient(_: FlexTensor, _: FlexTensor) -> FlexTensor {
        host::tensor(vec![0.0], [1])
    }
}

impl GivenGradient for CubeBackend {
    fn with_gradient(y: CubeTensor, _: CubeTensor) -> CubeTensor {
        launch::empty(&y, [1])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn the_backward_pass_starts_from_the_gradient_given() {
        let device = Device::flex().autodiff();
        let random = |device: &Device| {
            Tensor::<5>::random([2, 3, 1, 2, 5], Distribution::Uniform(-1.0, 1.0), device)
        };
        let x = random(&device).require_grad();
        let dy = random(&device);
        let grads = with_gradient(x.clone() * 2.0, dy.clone()).backward();
        let dx = x.grad(&grads).expect("x is tracked");
        assert_eq!(dx.into_data(), (dy * 2.0).inner().into_data());
    }
}
