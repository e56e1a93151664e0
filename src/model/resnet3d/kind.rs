//! Which backbones there are, and what tells them apart.

use crate::options::choices;

choices! {
    /// Which backbone, named as where its public weights come from. Parameters are counted without the
    /// classifier.
    pub BackboneKind {
        /// torchvision's, 3×3×3 convolutions throughout; 33.2 M parameters.
        R3d18 = "r3d_18" | "resnet3d_18",
        /// torchvision's, 3×3×3 in the first stage, 1×3×3 after it; 11.5 M parameters.
        Mc3_18 = "mc3_18",
        /// torchvision's, each 3×3×3 factored into 1×3×3 and 3×1×1; 31.3 M parameters.
        R2plus1d18 = "r2plus1d_18",
        /// The same with 34 layers, as moabitcoin/ig65m-pytorch has it with weights from 65 million
        /// Instagram videos; 63.5 M parameters. Its normalisation has ε = 1e-3, which those weights
        /// are made for. Their momentum is Caffe2's (0.9 in PyTorch's sense: the last batch is nearly all);
        /// that is not followed, running statistics move by 0.1 as everywhere else.
        R2plus1d34 = "r2plus1d_34",
        /// Hara et al.'s 34 layers (kenshohara/3D-ResNets-PyTorch, weights from Kinetics-700 and Moments
        /// in Time): 7×7×7 stem, max pooling, 3×3×3 convolutions; 63.5 M parameters.
        R3d34 = "r3d_34",
        /// Theirs with 50 layers: blocks of 1×1×1, 3×3×3 and 1×1×1, 2048 features; 46.2 M parameters.
        R3d50 = "r3d_50",
        /// For tests and first tries: r3d's shape with one block per stage and widths 8 to 64;
        /// 228 120 parameters, 64 features.
        R3dTiny = "r3d_tiny",
    }
    refused {
        "resnet3d_50" => "the old trainer silently took r2plus1d_18 for it: name r2plus1d_18 to go on \
                          with that, r3d_50 for a 3D ResNet of 50 layers",
    }
}

/// The convolutions of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConvKind {
    /// 3×3×3.
    Full,
    /// 1×3×3: time is neither mixed nor strided.
    NoTemporal,
    /// 1×3×3, BN, ReLU, 3×1×1.
    Factored,
}

/// Whose parts, under whose names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// torchvision.models.video, Tran et al. 2018.
    Torchvision,
    /// 3D-ResNets-PyTorch, Hara et al. 2018.
    Hara,
}

impl BackboneKind {
    /// Length F of the feature vector.
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

    /// Channels of a block's output over its width.
    pub(super) fn expansion(self) -> usize {
        if self.has_bottlenecks() { 4 } else { 1 }
    }

    /// Whether a block is 1×1×1, 3×3×3, 1×1×1, not 3×3×3 twice.
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

    /// Widths between the factors of a block's two convolutions from `inputs` to `outputs` channels.
    pub(super) fn factored_widths(self, inputs: usize, outputs: usize) -> [usize; 2] {
        let first = factored_width(inputs, outputs);
        match self {
            // From Caffe2, where each convolution counts for itself.
            Self::R2plus1d34 => [first, factored_width(outputs, outputs)],
            // torchvision takes it once per block, from the block's own widths.
            _ => [first; 2],
        }
    }

    /// ε of the normalisations.
    pub(super) fn epsilon(self) -> f64 {
        if self == Self::R2plus1d34 { 1e-3 } else { 1e-5 }
    }
}

/// Width between the two factors of a convolution, so that they have as many parameters as the
/// 3×3×3 one would have (Tran et al., section 3.5).
fn factored_width(inputs: usize, outputs: usize) -> usize {
    (inputs * outputs * 27) / (inputs * 9 + 3 * outputs)
}
