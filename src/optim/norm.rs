//! The norm of many tensors together.

use burn::backend::Flex;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{Tensor, TensorReadError};
use polyview_cpu::adam;

use super::wgsl;
use crate::kernels::plan::PlanError;
use crate::kernels::{Path, host, launch};

/// √Σx² over all numbers of all the tensors, which share a device and have no automatic
/// differentiation; 0 for none. Waits for the device once.
pub fn l2_norm(tensors: Vec<Tensor<1>>) -> Result<f64, TensorReadError> {
    let Some(first) = tensors.first() else { return Ok(0.0) };
    let fused = match Path::of_tensor(first) {
        Path::Host => on_host(&tensors),
        Path::Wgsl => on_wgsl(&tensors).transpose()?,
        Path::Stock => None,
    };
    let squares = match fused {
        Some(squares) => squares,
        None => {
            let sums = tensors.into_iter().map(|tensor| tensor.square().sum()).collect();
            f64::from(Tensor::cat(sums, 0).sum().try_into_scalar::<f32>()?)
        }
    };
    Ok(squares.sqrt())
}

/// Σx²; `None` if a tensor is not of Burn's CPU backend.
fn on_host(tensors: &[Tensor<1>]) -> Option<f64> {
    let squares = |tensor: &Tensor<1>| {
        let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
        Some(adam::sum_of_squares(&host::values(&tensor)))
    };
    tensors.iter().map(squares).sum()
}

/// The same on the device, in one buffer of partial sums.
fn on_wgsl(tensors: &[Tensor<1>]) -> Option<Result<f64, TensorReadError>> {
    let cube = |tensor: &Tensor<1>| tensor.clone().try_into_primitive::<CubeBackend>().ok();
    let tensors: Vec<CubeTensor> =
        tensors.iter().map(|tensor| cube(tensor).map(launch::contiguous)).collect::<Option<_>>()?;
    let like = tensors.first()?;
    let limits = launch::limits(&like.device)?;
    let mut parts = 0;
    let plans: Vec<wgsl::Plan> = tensors
        .iter()
        .map(|tensor| {
            let len = tensor.meta.shape().num_elements();
            let plan = wgsl::sum_squares(len, parts, &limits)?;
            parts += wgsl::sum_squares_parts(len);
            Ok(plan)
        })
        .collect::<Result<_, PlanError>>()
        .ok()?;
    let sums = launch::empty(like, [parts]);
    for (tensor, plan) in tensors.iter().zip(&plans) {
        launch::run(&tensor.client, plan, &[&tensor.handle, &sums.handle]);
    }
    let sums = Tensor::<1>::from_primitive::<CubeBackend>(sums);
    let add = |values: Vec<f32>| values.into_iter().map(f64::from).sum();
    Some(sums.try_into_vec_as::<f32>().map(add))
}
