//! The optimizer's step as an operation of Burn's backends.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Flex, TensorMetadata, backend_extension};
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
        let plan = launch::limits(&value.device)
            .and_then(|limits| wgsl::step(step.factors(), len, &limits).ok())
            .expect("the fused step runs on devices and sizes that its kernel takes");
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
