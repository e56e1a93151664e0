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
    Factored,
}

/// Origin of the stem and blocks and of their parameter names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// torchvision.models.video, Tran et al. 2018.
    Torchvision,
    /// 3D-ResNets-PyTorch, Hara et al. 2018.
    Hara,
}

impl BackboneKind {
    /// Returns the length F of the feature vector.
    pub fn features(self) -> usize {
        self.expansion() * self.widths()[3]
    }

    pub(super) fn family(self) -> Family {
        if matches!(self, Self::R3d34 | Self::R3d50) { Family::Hara } else { Family::Torchvision }
    }

    pub(super) fn widths(self) -> [usize; 4] {
        match self {
            Self::R3dTiny => [8, 16, 32, 64],
            _ => [64, 128, 256, 512],
        }
    }

    /// Returns the ratio of a block's output channels to its width.
    pub(super) fn expansion(self) -> usize {
        if self.has_bottlenecks() { 4 } else { 1 }
    }

    /// Whether a block is a 1×1×1, 3×3×3, 1×1×1 bottleneck rather than two 3×3×3 convolutions.
    pub(super) fn has_bottlenecks(self) -> bool {
        self == Self::R3d50
    }

    pub(super) fn blocks_per_stage(self) -> [usize; 4] {
        match self {
            Self::R3dTiny => [1; 4],
            Self::R3d18 | Self::Mc3_18 | Self::R2plus1d18 => [2; 4],
            Self::R2plus1d34 | Self::R3d34 | Self::R3d50 => [3, 4, 6, 3],
        }
    }

    pub(super) fn conv_kind(self, stage: usize) -> ConvKind {
        match self {
            Self::R2plus1d18 | Self::R2plus1d34 => ConvKind::Factored,
            Self::Mc3_18 if stage > 0 => ConvKind::NoTemporal,
            _ => ConvKind::Full,
        }
    }

    /// Returns the widths between the two factors of each of a block's two convolutions, for a block from
    /// `inputs` to `outputs` channels.
    pub(super) fn factored_widths(self, inputs: usize, outputs: usize) -> [usize; 2] {
        let first = factored_width(inputs, outputs);
        match self {
            // As in Caffe2, where each convolution has its own width.
            Self::R2plus1d34 => [first, factored_width(outputs, outputs)],
            // torchvision computes one width per block, from the block's own widths.
            _ => [first; 2],
        }
    }

    /// Returns ε of the batch norms.
    pub(super) fn epsilon(self) -> f64 {
        if self == Self::R2plus1d34 { 1e-3 } else { 1e-5 }
    }
}

/// Returns the width between the two factors of a convolution that gives them as many parameters as the
/// 3×3×3 convolution would have (Tran et al., section 3.5).
fn factored_width(inputs: usize, outputs: usize) -> usize {
    (inputs * outputs * 27) / (inputs * 9 + 3 * outputs)
}
