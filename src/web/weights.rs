//! The weights of a network, concatenated into one buffer.

use burn::tensor::{DType, Tensor};
use serde::Serialize;

use super::WebError;
use crate::half::beyond_range;

/// Location of a tensor among the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Offset in bytes, a multiple of 4.
    pub offset: usize,
    /// Number of values.
    pub count: usize,
    /// Whether the values are f16 rather than f32; little-endian either way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub half: bool,
}

/// Tensors of weights as bytes.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub bytes: Vec<u8>,
}

impl Weights {
    /// Appends a tensor in f32.
    pub(super) fn push<const D: usize>(&mut self, tensor: Tensor<D>) -> Result<Span, WebError> {
        self.append(tensor, DType::F32)
    }

    /// Appends a tensor in f16; `name` is for errors.
    pub(super) fn push_half<const D: usize>(
        &mut self,
        tensor: Tensor<D>,
        name: &str,
    ) -> Result<Span, WebError> {
        let span = self.append(tensor, DType::F16)?;
        if beyond_range(&self.bytes[span.offset..]) {
            return Err(WebError::BeyondHalf { tensor: name.to_owned() });
        }
        Ok(span)
    }

    fn append<const D: usize>(
        &mut self,
        tensor: Tensor<D>,
        dtype: DType,
    ) -> Result<Span, WebError> {
        let data = tensor.try_into_data().map_err(|error| WebError::Weights(error.to_string()))?;
        let count = data.num_elements();
        let data = data.try_cast(dtype).map_err(|error| WebError::Weights(error.to_string()))?;
        let offset = self.bytes.len();
        // Pages read little-endian values, which is also the order of every machine that runs polyview.
        self.bytes.extend_from_slice(data.as_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(Span { offset, count, half: dtype == DType::F16 })
    }
}
