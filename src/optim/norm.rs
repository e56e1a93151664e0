//! The norm of many tensors together.

use burn::backend::Flex;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{Tensor, TensorReadError};
use polyview_cpu::adam;

use super::wgsl::{self, OptimPlan};
use crate::kernels::{Implementation, host, launch};

/// Returns √Σx² over all elements of all the tensors, which share a device and have no automatic
/// differentiation; 0 for none. Waits for the device once.
pub fn l2_norm(tensors: Vec<Tensor<1>>) -> Result<f64, TensorReadError> {
    let Some(first) = tensors.first() else { return Ok(0.0) };
    let squares = match Implementation::of_tensor(first) {
        Implementation::Cpu => on_cpu(tensors),
        Implementation::Wgsl(limits) => {
            let lens: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
            match wgsl::sum_squares(&lens, &limits) {
                Ok((plan, parts)) => on_wgsl(tensors, &plan, parts)?,
                Err(error) => {
                    log::debug!("the gradient norm is computed by Burn's operations: {error}");
                    by_burn(tensors)?
                }
            }
        }
        Implementation::Burn => by_burn(tensors)?,
    };
    Ok(squares.sqrt())
}

/// Computes Σx² with Burn's own operations.
fn by_burn(tensors: Vec<Tensor<1>>) -> Result<f64, TensorReadError> {
    let sums = tensors.into_iter().map(|tensor| tensor.square().sum()).collect();
    Ok(f64::from(Tensor::cat(sums, 0).sum().try_into_scalar::<f32>()?))
}

/// Computes Σx² on Burn's CPU backend.
fn on_cpu(tensors: Vec<Tensor<1>>) -> f64 {
    let squares = |tensor: Tensor<1>| {
        let tensor = tensor.try_into_primitive::<Flex>();
        let tensor = tensor.expect("tensors of a norm share the first one's backend");
        adam::sum_of_squares(&host::values(&tensor))
    };
    tensors.into_iter().map(squares).sum()
}

/// Computes Σx² by the plan, which collects partial sums in one buffer.
fn on_wgsl(
    tensors: Vec<Tensor<1>>,
    plan: &OptimPlan,
    parts: usize,
) -> Result<f64, TensorReadError> {
    let cube = |tensor: Tensor<1>| {
        let tensor = tensor.try_into_primitive::<CubeBackend>();
        launch::contiguous(tensor.expect("tensors of a norm share the first one's backend"))
    };
    let tensors: Vec<CubeTensor> = tensors.into_iter().map(cube).collect();
    let sums = launch::empty(&tensors[0], [parts]);
    let operands: Vec<_> = tensors.iter().chain([&sums]).map(|tensor| &tensor.handle).collect();
    launch::run(&sums.client, plan, &operands);
    let sums = Tensor::<1>::from_primitive::<CubeBackend>(sums);
    let sums = sums.try_into_vec_as::<f32>()?;
    Ok(sums.into_iter().map(f64::from).sum())
}
