//! Burn's CPU tensors as slices.

use std::borrow::Cow;

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;

/// The numbers of a f32 tensor in their logical order, copied only where they do not lie so.
/// Empty for another element type.
pub(crate) fn values(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.as_slice::<f32>() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(
            tensor.to_contiguous().as_slice::<f32>().map(<[f32]>::to_vec).unwrap_or_default(),
        ),
    }
}

/// A tensor of these numbers.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The tensor with exactly its own numbers in its storage, in their logical order.
pub(crate) fn whole(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.to_contiguous();
    // The clone behind `to_contiguous` must not make the storage look shared.
    drop(tensor);
    whole
}
