//! Reading results back from a device that may not have computed them.

use std::sync::atomic::{AtomicU32, Ordering};

use burn::tensor::{ExecutionError, Tensor, TensorReadError};

/// Reads several tensors of one device back at once and returns their values, one tensor after the
/// other.
///
/// The device's last operation writes a number after them that no other call writes. If the system
/// aborts the work and drops what follows, which Metal's driver does and wgpu does not report, the
/// memory holds something else in that place, and the values are stale.
///
/// # Errors
/// If the device fails, or if its last work is missing.
pub(crate) fn read_back(mut tensors: Vec<Tensor<1>>) -> Result<Vec<f32>, TensorReadError> {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    // Memory that was never written holds zeros. f32 represents all integers up to 2²⁴.
    let mark = (CALLS.fetch_add(1, Ordering::Relaxed) % (1 << 24)).max(1) as f32;
    if let Some(device) = tensors.first().map(Tensor::device) {
        tensors.push(Tensor::full([1], mark, &device));
        return without_mark(Tensor::cat(tensors, 0).try_into_vec_as::<f32>()?, mark);
    }
    Ok(Vec::new())
}

/// Returns the values before the mark, if the mark is there.
fn without_mark(mut values: Vec<f32>, mark: f32) -> Result<Vec<f32>, TensorReadError> {
    if values.pop() == Some(mark) {
        return Ok(values);
    }
    let reason = "the system has aborted the device's work, perhaps because it took too long";
    Err(ExecutionError::WithContext { reason: reason.to_owned() }.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::device;

    #[test]
    fn stale_values_are_recognised_by_their_mark() {
        for device in [Some(burn::tensor::Device::flex()), device::unshared()].into_iter().flatten()
        {
            let of = |values: &[f32]| Tensor::<1>::from_data(values, &device);
            for last in [1.0, f32::NAN] {
                let values = read_back(vec![of(&[3.0, 4.0]), of(&[last])]).unwrap();
                assert_eq!(values[..2], [3.0, 4.0]);
                assert_eq!(values[2].to_bits(), last.to_bits());
            }
            assert_eq!(read_back(Vec::new()).unwrap(), Vec::<f32>::new());
        }
        assert_eq!(without_mark(vec![0.5, 7.0], 7.0).unwrap(), [0.5]);
        for stale in [vec![0.5, 6.0], vec![0.0, 0.0], vec![0.5, f32::NAN], Vec::new()] {
            let error = without_mark(stale, 7.0).unwrap_err().to_string();
            assert!(error.contains("the system has aborted the device's work"), "{error}");
        }
    }
}
