//! The shaders' variants.

use super::params::{
    BlendLayer, BlendParams, CollectParams, CollectSumsParams, EachParams, ReduceParams,
};
use super::source;
use crate::kernels::layout::{Layout, Record};
use crate::kernels::plan::Shader;
use crate::kernels::storage::Storage;

/// Source of the ReLU's mask for the sums of the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mask {
    /// There is no ReLU.
    None,
    /// The mask is recomputed from x.
    FromX,
    /// The forward pass stored the mask; the masked gradient is written.
    Kept,
}

/// A shader in one variant. Those that are `wide` process four elements at a time; `x` is how x, y
/// and the residual are stored, and their gradients accordingly. Variants in half precision that
/// are not `wide` write results in f32, because one of the two values in a word cannot be written
/// alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NormKernel {
    /// Partial statistics.
    Stats { wide: bool, x: Storage },
    /// Merges the partial statistics that a convolution computed into one part per channel.
    Collect,
    /// Merges the partial gradient sums that a convolution computed.
    CollectSums,
    /// The normalisation itself, by the batch's statistics or by given ones.
    Apply { wide: bool, residual: bool, relu: bool, given: bool, x: Storage },
    /// Partial gradient sums.
    Grads { wide: bool, mask: Mask, x: Storage },
    /// Gradients of x, γ and β; with `relu` the mask is recomputed from x. `dy` may be in f32
    /// although x is not, if [`Self::Grads`] wrote it.
    Input { wide: bool, relu: bool, x: Storage, dy: Storage },
    /// Gradients of x and of the residual with given statistics; without a ReLU y is not read.
    Frozen { wide: bool, relu: bool, residual: bool, y: Storage },
    /// Updates the running statistics of some layers after a batch.
    Blend { layers: u32 },
}

impl NormKernel {
    /// Returns every variant; of the blends only those with 1, 2 and the maximum number of layers.
    pub(crate) fn variants() -> Vec<Self> {
        const BOTH: [bool; 2] = [false, true];
        let mut variants: Vec<_> =
            [1, 2, super::blend::MAX_LAYERS].map(|layers| Self::Blend { layers }).into();
        variants.extend([Self::Collect, Self::CollectSums]);
        let storages = [Storage::F32].into_iter().chain(Storage::HALVES);
        for (x, wide) in storages.flat_map(|x| BOTH.map(|wide| (x, wide))) {
            variants.push(Self::Stats { wide, x });
            variants.extend([Mask::None, Mask::FromX, Mask::Kept].map(|mask| Self::Grads {
                wide,
                mask,
                x,
            }));
            for relu in BOTH {
                variants.push(Self::Input { wide, relu, x, dy: x.gradient() });
                // Without a ReLU y is not read, so both forms of half precision give the same text.
                if relu || x != Storage::F16 {
                    variants.push(Self::Frozen { wide, relu, residual: false, y: x });
                }
                for residual in BOTH {
                    let apply = |given| Self::Apply { wide, residual, relu, given, x };
                    variants.extend(BOTH.map(apply));
                }
            }
            variants.push(Self::Frozen { wide, relu: true, residual: true, y: x });
            if x.is_half() && !wide {
                variants.push(Self::Input { wide, relu: false, x, dy: Storage::F32 });
            }
        }
        variants
    }
}

/// Returns how a result that should be stored this way is actually written.
pub(super) fn written(storage: Storage, wide: bool) -> Storage {
    if wide { storage } else { Storage::F32 }
}

impl Shader for NormKernel {
    fn file(&self) -> &'static str {
        match self {
            Self::Stats { .. } => "norm_stats.wgsl",
            Self::Collect => "norm_collect.wgsl",
            Self::CollectSums => "norm_collect_sums.wgsl",
            Self::Apply { .. } => "norm_apply.wgsl",
            Self::Grads { .. } => "norm_grads.wgsl",
            Self::Input { .. } => "norm_input.wgsl",
            Self::Frozen { .. } => "norm_frozen.wgsl",
            Self::Blend { .. } => "norm_blend.wgsl",
        }
    }

    fn source(&self) -> String {
        let text = match *self {
            Self::Stats { wide, x } => source::stats(wide, x),
            Self::Collect => source::collect(),
            Self::CollectSums => source::collect_sums(),
            Self::Apply { wide, residual, relu, given, x } => {
                source::apply(wide, [residual, relu, given], self.keeps_mask(), x)
            }
            Self::Grads { wide, mask, x } => source::grads(wide, mask, x),
            Self::Input { wide, relu, x, dy } => source::input(wide, relu, x, dy),
            Self::Frozen { wide, relu, residual, y } => source::frozen(wide, relu, residual, y),
            Self::Blend { layers } => source::blend(layers),
        };
        self.storage().directive().to_owned() + &text
    }

    fn workgroup_size(&self) -> u32 {
        match self {
            Self::Blend { .. } => PER_CHANNEL,
            _ => THREADS as u32,
        }
    }

    fn params(&self) -> &'static Layout {
        match self {
            Self::Stats { .. } | Self::Grads { .. } => ReduceParams::LAYOUT,
            Self::Collect => CollectParams::LAYOUT,
            Self::CollectSums => CollectSumsParams::LAYOUT,
            Self::Apply { .. } | Self::Input { .. } | Self::Frozen { .. } => EachParams::LAYOUT,
            Self::Blend { .. } => BlendParams::LAYOUT,
        }
    }

    fn records(&self) -> &'static [&'static Layout] {
        match self {
            Self::Blend { .. } => &[BlendLayer::LAYOUT],
            _ => &[],
        }
    }
}

impl NormKernel {
    /// Returns how its activations are stored.
    fn storage(&self) -> Storage {
        match *self {
            Self::Stats { x, .. }
            | Self::Apply { x, .. }
            | Self::Grads { x, .. }
            | Self::Input { x, .. } => x,
            Self::Frozen { y, .. } => y,
            Self::Collect | Self::CollectSums | Self::Blend { .. } => Storage::F32,
        }
    }

    /// Whether the forward pass stores the mask of its ReLU, which it does where the mask does not
    /// follow from x alone.
    fn keeps_mask(&self) -> bool {
        matches!(self, Self::Apply { residual: true, relu: true, given: false, .. })
    }
}

/// Invocations per workgroup in the passes over elements.
pub(super) const THREADS: usize = 256;
/// Invocations per workgroup in the blends, one per channel.
pub(super) const PER_CHANNEL: u32 = 64;
