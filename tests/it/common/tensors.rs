//! Tensors from numbers, and random numbers.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::fill;

/// Returns a tensor of `values`, row-major.
pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Returns [`fill::unit`] as a tensor.
pub fn unit_tensor<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> =
        fill::unit(name, shape.iter().product()).into_iter().map(|u| u as f32).collect();
    tensor(&values, shape, device)
}

/// Returns the elements in f32, row-major.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert_dtype(DType::F32).try_into_vec().expect("it is f32 now")
}

/// Draws `count` numbers, uniform in [centre - spread, centre + spread).
pub fn uniform(rng: &mut ChaCha8Rng, count: usize, spread: f32, centre: f32) -> Vec<f32> {
    (0..count).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * spread + centre).collect()
}
