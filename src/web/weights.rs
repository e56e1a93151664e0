//! The weights of a network, one after the other.

use burn::tensor::{DType, Tensor};
use serde::Serialize;

use super::WebError;
use crate::half::beyond_range;

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Bytes before it, a multiple of 4.
    pub offset: usize,
    /// Its values.
    pub count: usize,
    /// Whether they are f16 and not f32; little-endian either way.
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
        // Every device that runs polyview is little-endian, as pages read it.
        self.bytes.extend_from_slice(data.as_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(Span { offset, count, half: dtype == DType::F16 })
    }
}
