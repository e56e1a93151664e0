//! The kinds of backbones and how they differ.

use crate::options::choices;

choices! {
    /// Kind of backbone, with the name used by the source of its public weights. Parameter counts exclude
    /// the classifier.
    pub BackboneKind {
        /// torchvision's r3d_18: 3×3×3 convolutions throughout; 33.2 M parameters.
        R3d18 = "r3d_18" | "resnet3d_18",
        /// torchvision's mc3_18: 3×3×3 in the first stage, 1×3×3 after it; 11.5 M parameters.
        Mc3_18 = "mc3_18",
        /// torchvision's r2plus1d_18: each 3×3×3 factored into 1×3×3 and 3×1×1; 31.3 M parameters.
        R2plus1d18 = "r2plus1d_18",
        /// r2plus1d with 34 layers, as in moabitcoin/ig65m-pytorch, which has weights from 65 million
        /// Instagram videos; 63.5 M parameters. Its batch norms have ε = 1e-3, which those weights were
        /// trained with. Their momentum, Caffe2's (0.9 in PyTorch's sense: the running statistics are
        /// almost those of the last batch), is not adopted: it is 0.1 as for all other backbones.
        R2plus1d34 = "r2plus1d_34",
        /// Hara et al.'s 34 layers (kenshohara/3D-ResNets-PyTorch, weights from Kinetics-700 and Moments
        /// in Time): 7×7×7 stem, max pooling, 3×3×3 convolutions; 63.5 M parameters.
        R3d34 = "r3d_34",
        /// Hara et al.'s 50 layers: blocks of 1×1×1, 3×3×3 and 1×1×1, 2048 features; 46.2 M parameters.
        R3d50 = "r3d_50",
        /// For tests and first experiments: an r3d with one block per stage and widths 8 to 64;
        /// 228 120 parameters, 64 features.
        R3dTiny = "r3d_tiny",
    }
    refused {
        "resnet3d_50" => "the old trainer silently used r2plus1d_18 instead: use r2plus1d_18 for the same \
                          network, or r3d_50 for a 3D ResNet of 50 layers",
    }
}

/// Kind of the convolutions in a stage's blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConvKind {
    /// 3×3×3.
    Full,
    /// 1×3×3: time is neither mixed nor strided.
    NoTemporal,
    /// 1×3×3, BN, ReLU, 3×1×1.
    Factored(Factors),
}

/// Which channels determine the width between the two factors of a convolution.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Factors {
    /// The block's, for both of its convolutions, as in torchvision.
    OfBlock,
    /// Each convolution's own, as in Caffe2.
    OfConvolution,
}

impl Factors {
    /// Returns the width in a convolution with these input and output channels, in a block with those.
    pub(super) fn width(self, convolution: [usize; 2], block: [usize; 2]) -> usize {
        match self {
            Self::OfBlock => factored_width(block),
            Self::OfConvolution => factored_width(convolution),
        }
    }
}

/// Origin of the stem and blocks and of their parameter names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// torchvision.models.video, Tran et al. 2018.
    Torchvision,
    /// 3D-ResNets-PyTorch, Hara et al. 2018.
    Hara,
}

/// Everything in which backbones differ.
pub(super) struct Spec {
    pub family: Family,
    /// Width of each stage's blocks.
    pub widths: [usize; 4],
    /// Number of blocks in each stage.
    pub blocks: [usize; 4],
    /// Whether a block is a 1×1×1, 3×3×3, 1×1×1 bottleneck rather than two convolutions.
    pub bottlenecks: bool,
    /// Convolutions of each stage; the stem's are of the first stage's kind.
    pub convolutions: [ConvKind; 4],
    /// ε of the batch norms.
    pub epsilon: f64,
    pub has_public_weights: bool,
}

const WIDTHS: [usize; 4] = [64, 128, 256, 512];
const BLOCKS_OF_18: [usize; 4] = [2; 4];
const BLOCKS_OF_34: [usize; 4] = [3, 4, 6, 3];
const EPSILON: f64 = 1e-5;

impl BackboneKind {
    /// Returns what the backbone is built from. Every field is given for every kind, so that none of them
    /// is forgotten for a new one.
    pub(super) fn spec(self) -> Spec {
        use ConvKind::{Factored, Full, NoTemporal};
        match self {
            Self::R3d18 => Spec {
                family: Family::Torchvision,
                widths: WIDTHS,
                blocks: BLOCKS_OF_18,
                bottlenecks: false,
                convolutions: [Full; 4],
                epsilon: EPSILON,
                has_public_weights: true,
            },
            Self::Mc3_18 => Spec {
                family: Family::Torchvision,
                widths: WIDTHS,
                blocks: BLOCKS_OF_18,
                bottlenecks: false,
                convolutions: [Full, NoTemporal, NoTemporal, NoTemporal],
                epsilon: EPSILON,
                has_public_weights: true,
            },
            Self::R2plus1d18 => Spec {
                family: Family::Torchvision,
                widths: WIDTHS,
                blocks: BLOCKS_OF_18,
                bottlenecks: false,
                convolutions: [Factored(Factors::OfBlock); 4],
                epsilon: EPSILON,
                has_public_weights: true,
            },
            Self::R2plus1d34 => Spec {
                family: Family::Torchvision,
                widths: WIDTHS,
                blocks: BLOCKS_OF_34,
                bottlenecks: false,
                convolutions: [Factored(Factors::OfConvolution); 4],
                epsilon: 1e-3,
                has_public_weights: true,
            },
            Self::R3d34 => Spec {
                family: Family::Hara,
                widths: WIDTHS,
                blocks: BLOCKS_OF_34,
                bottlenecks: false,
                convolutions: [Full; 4],
                epsilon: EPSILON,
                has_public_weights: true,
            },
            Self::R3d50 => Spec {
                family: Family::Hara,
                widths: WIDTHS,
                blocks: BLOCKS_OF_34,
                bottlenecks: true,
                convolutions: [Full; 4],
                epsilon: EPSILON,
                has_public_weights: true,
            },
            Self::R3dTiny => Spec {
                family: Family::Torchvision,
                widths: [8, 16, 32, 64],
                blocks: [1; 4],
                bottlenecks: false,
                convolutions: [Full; 4],
                epsilon: EPSILON,
                has_public_weights: false,
            },
        }
    }

    /// Returns the length F of the feature vector.
    pub fn features(self) -> usize {
        let spec = self.spec();
        spec.expansion() * spec.widths[3]
    }

    /// Returns whether others have published weights of the backbone.
    pub fn has_public_weights(self) -> bool {
        self.spec().has_public_weights
    }
}

impl Spec {
    /// Returns the ratio of a block's output channels to its width.
    pub(super) fn expansion(&self) -> usize {
        if self.bottlenecks { 4 } else { 1 }
    }
}

/// Returns the width between the two factors of a convolution that gives them as many parameters as the
/// 3×3×3 convolution would have (Tran et al., section 3.5).
fn factored_width([inputs, outputs]: [usize; 2]) -> usize {
    (inputs * outputs * 27) / (inputs * 9 + 3 * outputs)
}
