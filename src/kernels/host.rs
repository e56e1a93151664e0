//! Burn's CPU tensors as slices, and values that were read back from any device.

use std::borrow::Cow;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, TensorData};

/// Returns the values of an f32 tensor in logical order, copied only if they are not contiguous.
///
/// # Panics
/// If the tensor is not f32, the only type that the kernels take.
pub(crate) fn values(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.as_slice::<f32>() {
        Some(values) => Cow::Borrowed(values),
        None => {
            let contiguous = tensor.to_contiguous();
            Cow::Owned(
                contiguous.as_slice::<f32>().expect("an operand of a kernel is f32").to_vec(),
            )
        }
    }
}

/// Copies the values that were read back from a tensor. (`TensorData::try_into_vec` makes another
/// pass over them first.)
///
/// # Panics
/// If they are not f32.
pub(crate) fn floats(data: &TensorData) -> Vec<f32> {
    assert_eq!(data.dtype(), DType::F32, "values on the host");
    bytemuck::pod_collect_to_vec(data.as_bytes())
}

/// Creates a tensor of these values.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Returns the tensor with exactly its own values in its storage, in logical order.
pub(crate) fn whole(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.to_contiguous();
    // The clone behind `to_contiguous` must not make the storage look shared.
    drop(tensor);
    whole
}
