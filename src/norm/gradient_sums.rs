//! The sums that a normalisation's backward pass begins with, computed where the gradient of its output
//! is: by the convolution that reads the output. That saves reading the gradient once more.

use std::sync::{Arc, Mutex, MutexGuard};

use burn::backend::wgpu::CubeTensor;
use burn::tensor::Tensor;

/// What the convolution that reads a normalisation's output, through a ReLU, must know of it to compute
/// the sums.
#[derive(Debug, Clone)]
pub struct Producer {
    /// What was normalised: `[N, C, T, H, W]`.
    pub(crate) x: Tensor<5>,
    /// What the normalisation kept for its backward pass.
    pub(crate) kept: Tensor<1>,
    pub(crate) sums: Arc<GradientSums>,
}

impl Producer {
    /// Whether a convolution has left sums that the normalisation has not taken yet.
    #[doc(hidden)]
    pub fn has_sums(&self) -> bool {
        self.sums.lock().is_some()
    }
}

/// Where the convolution's backward pass leaves the sums for the normalisation's.
#[derive(Debug, Default)]
pub(crate) struct GradientSums(Mutex<Option<Delivered>>);

#[derive(Debug)]
struct Delivered {
    /// Kept so that nothing is added to it in place.
    gradient: CubeTensor,
    sums: SumsInParts,
}

/// Σ g and Σ g·(x − mean) of each part of each channel, where g is the output's gradient, and 0 where the
/// ReLU was closed.
#[derive(Debug)]
pub(crate) struct SumsInParts {
    /// `[C·parts·2]`.
    pub parts: CubeTensor,
    /// Values of a part; the last one of a channel may have fewer.
    pub slice: usize,
}

impl GradientSums {
    /// Leaves the sums of this gradient of the output.
    pub(crate) fn deliver(&self, gradient: &CubeTensor, sums: SumsInParts) {
        *self.lock() = Some(Delivered { gradient: gradient.clone(), sums });
    }

    /// Takes what was left, if that convolution's gradient is all that came: what else reads the output
    /// has its gradient added.
    pub(super) fn take(&self, gradient: &CubeTensor) -> Option<SumsInParts> {
        let Delivered { gradient: counted, sums } = self.lock().take()?;
        is_same(&counted, gradient).then_some(sums)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Delivered>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether both are one and the same memory.
fn is_same(a: &CubeTensor, b: &CubeTensor) -> bool {
    let place = |of: &CubeTensor| {
        let handle = &of.handle;
        (handle.memory.clone().binding().id(), handle.offset_start, handle.offset_end)
    };
    place(a) == place(b)
}
