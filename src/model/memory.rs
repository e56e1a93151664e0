//! An estimate of the device memory that a step needs.

use super::{Backbone, PartShapes, STAGES, StageSet};
use crate::kernels::plan::MOST_BYTES;

/// Fraction of the free memory that a step may use. Allocators keep pages of odd sizes, and the
/// estimate leaves out small buffers.
const USABLE: f64 = 0.85;
/// Bytes of an f32 and of an f16.
const F32: u64 = 4;
const F16: u64 = 2;
/// A parameter, its gradient and two moments of Adam.
const PER_PARAMETER: u64 = 4 * F32;

/// Estimate of a step's cost: device memory in bytes, and the work of its largest launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Bytes that do not depend on the micro-batch: parameters, their gradients, the optimizer's
    /// moments.
    pub fixed: u64,
    /// Bytes per clip of the micro-batch.
    pub clip: u64,
    /// Bytes of the largest single tensor of one clip, in f32.
    pub widest: u64,
    /// Floating-point operations of one pass of the largest convolution over one clip.
    pub operations: u64,
}

impl MemoryEstimate {
    /// Estimates the cost of training the stages `trainable` on clips of `size` = `[T, H, W]`; `None`
    /// if the clips are too small for the network. Assumes that the backward pass needs the output of
    /// every convolution and of its batch norm and the tensors that max pooling keeps, and that five
    /// of the widest tensors are in flight (measured on the CPU). In half precision, everything but
    /// the pooling takes half of that.
    pub fn training(
        backbone: &Backbone,
        parameters: usize,
        size: [usize; 3],
        trainable: StageSet,
        checkpointing: bool,
    ) -> Option<Self> {
        let [t, h, w] = size;
        let parts = backbone.convolutions_by_part([1, 3, t, h, w])?;
        let lowest = (0..).take(STAGES.len()).find(|&s| trainable.contains(s));
        let trained = |part: &&PartShapes| lowest.is_some_and(|lowest| part.stage >= lowest);
        let half = backbone.is_half();
        let bytes = if half { F16 } else { F32 };
        let within = |part: &PartShapes| -> u64 {
            let outputs: usize = part.convolutions.iter().map(|shape| shape.output_len()).sum();
            2 * outputs as u64 * bytes + kept_by_pooling(part, half)
        };
        let input = |part: &PartShapes| part.convolutions.first().map_or(0, |s| s.input_len());
        let kept: u64 = if checkpointing {
            let inputs = parts.iter().filter(trained).map(input).sum::<usize>() as u64;
            inputs * bytes + parts.iter().filter(trained).map(within).max().unwrap_or(0)
        } else {
            parts.iter().filter(trained).map(within).sum()
        };
        let clip = 3 * t * h * w;
        let all = || parts.iter().flat_map(|part| &part.convolutions);
        let widest = all().map(|shape| shape.output_len()).max().unwrap_or(0).max(clip);
        let operations = all().map(|shape| 2 * shape.useful_multiply_adds()).max().unwrap_or(0);
        Some(Self {
            fixed: parameters as u64 * PER_PARAMETER,
            clip: kept + 5 * widest as u64 * bytes + clip as u64 * F32,
            widest: widest as u64 * F32,
            operations: operations as u64,
        })
    }

    /// Returns the number of clips per pass that fit into `free` bytes with no buffer binding larger
    /// than `binding` bytes; `u64::MAX` if neither is known.
    pub fn clips(&self, free: Option<u64>, binding: Option<u64>) -> u64 {
        let by_memory = free.map_or(u64::MAX, |free| {
            ((free as f64 * USABLE) as u64).saturating_sub(self.fixed) / self.clip.max(1)
        });
        let by_binding =
            binding.map_or(u64::MAX, |most| most.min(MOST_BYTES as u64) / self.widest.max(1));
        by_memory.min(by_binding)
    }

    /// Returns the number of clips per pass, at least one, such that no convolution takes more than
    /// `most` operations; `u64::MAX` if those are not limited.
    pub fn clips_per_launch(&self, most: Option<u64>) -> u64 {
        most.map_or(u64::MAX, |most| (most / self.operations.max(1)).max(1))
    }
}

/// Returns the bytes that max pooling keeps: the outputs of its two steps in f32 and the positions of
/// the maxima as 32-bit numbers. In half precision it also keeps its input, converted to f32.
fn kept_by_pooling(part: &PartShapes, half: bool) -> u64 {
    let Some(sizes) = part.pooling else { return 0 };
    let [input, plane, time] = sizes.map(|size| size.iter().product::<usize>() as u64);
    F32 * (2 * (plane + time) + if half { input } else { 0 })
}
