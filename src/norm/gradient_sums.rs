//! The sums that a normalisation's backward pass starts with, computed along with the gradient of
//! its output by the convolution that reads this output. That saves reading the gradient once more.

use std::sync::{Arc, Mutex, MutexGuard};

use burn::backend::wgpu::CubeTensor;
use burn::tensor::Tensor;

/// State of a normalisation that the convolution reading its output, through a ReLU, needs to
/// compute the gradient sums.
#[derive(Debug, Clone)]
pub struct Producer {
    /// Input of the normalisation: `[N, C, T, H, W]`.
    pub(crate) x: Tensor<5>,
    /// Values that the normalisation stored for its backward pass.
    pub(crate) kept: Tensor<1>,
    pub(crate) sums: Arc<GradientSums>,
}

impl Producer {
    /// Whether a convolution has delivered sums that the normalisation has not taken yet.
    #[doc(hidden)]
    pub fn has_sums(&self) -> bool {
        self.sums.lock().is_some()
    }
}

/// Slot through which the convolution's backward pass hands the sums to the normalisation's.
#[derive(Debug, Default)]
pub(crate) struct GradientSums(Mutex<Option<Delivered>>);

#[derive(Debug)]
struct Delivered {
    /// Gradient that the sums were computed from. Holding it prevents others from being added to it
    /// in place.
    gradient: CubeTensor,
    sums: SumsInParts,
}

/// Σ g and Σ g·(x − mean) of each part of each channel, where g is the output's gradient, set to 0
/// where the ReLU's output was 0.
#[derive(Debug)]
pub(crate) struct SumsInParts {
    /// `[C·parts·2]`.
    pub parts: CubeTensor,
    /// Number of values per part; a channel's last part may have fewer.
    pub slice: usize,
}

impl GradientSums {
    /// Stores the sums computed from this gradient of the output.
    pub(crate) fn deliver(&self, gradient: &CubeTensor, sums: SumsInParts) {
        *self.lock() = Some(Delivered { gradient: gradient.clone(), sums });
    }

    /// Takes the stored sums if they were computed from exactly this gradient. If other operations
    /// also read the output, their gradients have been added, and the sums are incomplete.
    pub(super) fn take(&self, gradient: &CubeTensor) -> Option<SumsInParts> {
        let Delivered { gradient: counted, sums } = self.lock().take()?;
        is_same(&counted, gradient).then_some(sums)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Delivered>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether both tensors occupy the same memory.
fn is_same(a: &CubeTensor, b: &CubeTensor) -> bool {
    let place = |of: &CubeTensor| {
        let handle = &of.handle;
        (handle.memory.clone().binding().id(), handle.offset_start, handle.offset_end)
    };
    place(a) == place(b)
}
