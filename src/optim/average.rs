//! Moving averages of parameters.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use polyview_cpu::blend;

use crate::kernels::{Implementation, host};

/// Returns old + share·(new − old). Both tensors are flat and without automatic differentiation.
/// The memory of the old one is reused if nothing else holds it.
pub fn towards(old: Tensor<1>, new: Tensor<1>, share: f32) -> Tensor<1> {
    if !matches!(Implementation::of_tensor(&old), Implementation::Cpu) {
        return old.clone().add(new.sub(old).mul_scalar(share));
    }
    let flex = |tensor: Tensor<1>| {
        let tensor = tensor.try_into_primitive::<Flex>();
        tensor.expect("both tensors share a backend")
    };
    let (mut old, new) = (host::whole(flex(old)), flex(new));
    blend::blend(FlexTensor::storage_mut::<f32>(&mut old), &host::values(&new), share);
    Tensor::from_primitive::<Flex>(old)
}
