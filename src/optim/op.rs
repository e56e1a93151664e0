//! The optimizer's step as an operation of Burn's backends.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::DType;
use polyview_cpu::adam;

use super::{Step, wgsl};
use crate::kernels::{host, launch};

/// The operation as Burn dispatches it.
#[backend_extension(Cube, Flex)]
pub(crate) trait StepOps: Backend {
    /// Parameter, m and v after the step, from parameter, gradient, m and v.
    fn adam_step(
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: Step,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl StepOps for Flex {
    fn adam_step(
        value: FlexTensor,
        grad: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        step: Step,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [mut value, mut first, mut second] = [value, first, second].map(host::whole);
        let grad = host::values(&grad);
        let [p, m, v] = [&mut value, &mut first, &mut second].map(FlexTensor::storage_mut::<f32>);
        adam::update(step.factors(), p, &grad, m, v);
        (value, first, second)
    }
}

impl StepOps for CubeBackend {
    fn adam_step(
        value: CubeTensor,
        grad: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        step: Step,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let len = value.shape().num_elements();
        let f32s = [&value, &grad, &first, &second].iter().all(|tensor| tensor.dtype == DType::F32);
        let limits = launch::limits(&value.device).filter(|_| f32s);
        let Some(plan) = limits.and_then(|limits| wgsl::step(&step, len, &limits).ok()) else {
            return stock::<Self>(value, grad, first, second, &step);
        };
        let old = [value, first, second].map(launch::contiguous);
        let grad = launch::contiguous(grad);
        let new = old.each_ref().map(|old| match old.handle.can_mut() {
            true => old.clone(),
            false => launch::empty(old, [len]),
        });
        let [p, m, v] = &old;
        let operands = [p, &grad, m, v, &new[0], &new[1], &new[2]];
        launch::run(&p.client, &plan, &operands.map(|tensor| &tensor.handle));
        let [p, m, v] = new;
        (p, m, v)
    }
}

/// By the backend's own operations.
fn stock<B: Backend>(
    value: FloatTensor<B>,
    grad: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    step: &Step,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let times = |tensor, factor: f64| B::float_mul_scalar(tensor, factor.into());
    let grad = B::float_add(times(grad, step.scale), times(value.clone(), step.l2));
    let blend = |old, new, beta: f64| B::float_add(times(old, beta), times(new, 1.0 - beta));
    let first = blend(first, grad.clone(), step.beta1);
    let second = blend(second, B::float_mul(grad.clone(), grad), step.beta2);
    let root = step.correction(step.beta2).sqrt();
    let spread = times(B::float_sqrt(second.clone()), 1.0 / root);
    let spread = B::float_add_scalar(spread, step.epsilon.into());
    let change =
        times(B::float_div(first.clone(), spread), step.rate / step.correction(step.beta1));
    let value = B::float_sub(times(value, 1.0 - step.rate * step.decay), change);
    (value, first, second)
}
