//! The video ResNets of Tran et al. 2018 ("A Closer Look at Spatiotemporal Convolutions for Action
//! Recognition"), as torchvision.models.video builds them, under torchvision's parameter names.
//!
//! One network type; the backbones differ in their stem, in the kind of convolution per
//! stage, and in width. Tuples hold what torchvision puts into `nn.Sequential`, so the parts'
//! numbers in the parameter names come out the same.

mod shapes;

pub use shapes::PartShapes;

use burn::module::Module;
use burn::nn::Relu;
use burn::tensor::Tensor;

use super::layers::{BatchNorm3d, Conv3d, Convolved, Init};
use super::parameter_count;
use super::stages::StageSet;
use super::statistics::BatchStatistics;
use crate::half;
use crate::norm::After;
use crate::options::choices;

choices! {
    /// Which backbone. The names are torchvision's, except for r3d_tiny.
    pub BackboneKind {
        /// 3×3×3 convolutions throughout; 33.2 M parameters.
        R3d18 = "r3d_18" | "resnet3d_18",
        /// 3×3×3 in the first stage, 1×3×3 after it; 11.5 M parameters.
        Mc3_18 = "mc3_18",
        /// Each 3×3×3 factored into 1×3×3 and 3×1×1; 31.3 M parameters.
        R2plus1d18 = "r2plus1d_18",
        /// For tests and first tries: r3d's shape with one block per stage and widths 8 to 64;
        /// 228 120 parameters, 64 features.
        R3dTiny = "r3d_tiny",
    }
    refused {
        "resnet3d_50" => "there is no resnet3d_50 (the old trainer silently took r2plus1d_18 for \
                          it): name r2plus1d_18 if that is what you want",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConvKind {
    /// 3×3×3.
    Full,
    /// 1×3×3: time is neither mixed nor strided.
    NoTemporal,
    /// 1×3×3, BN, ReLU, 3×1×1.
    Factored,
}

impl BackboneKind {
    /// Length F of the feature vector.
    pub fn features(self) -> usize {
        self.widths()[3]
    }

    fn widths(self) -> [usize; 4] {
        match self {
            Self::R3dTiny => [8, 16, 32, 64],
            _ => [64, 128, 256, 512],
        }
    }

    fn blocks_per_stage(self) -> usize {
        if self == Self::R3dTiny { 1 } else { 2 }
    }

    fn conv_kind(self, stage: usize) -> ConvKind {
        match self {
            Self::R2plus1d18 => ConvKind::Factored,
            Self::Mc3_18 if stage > 0 => ConvKind::NoTemporal,
            _ => ConvKind::Full,
        }
    }
}

/// The stem: `[N, 3, T, H, W]` → `[N, C, T, H/2, W/2]`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one per network; a few hundred bytes of handles")]
enum Stem {
    Plain((Conv3d, BatchNorm3d, Relu)),
    Factored((Conv3d, BatchNorm3d, Relu, Conv3d, BatchNorm3d, Relu)),
}

impl Stem {
    fn new(init: &mut Init, kind: BackboneKind) -> Self {
        let width = kind.widths()[0];
        let spatial = [1, 7, 7];
        if kind == BackboneKind::R2plus1d18 {
            Self::Factored((
                Conv3d::new(init, [3, 45], spatial, [1, 2, 2], [0, 3, 3]),
                BatchNorm3d::new(init, 45),
                Relu::new(),
                Conv3d::new(init, [45, width], [3, 1, 1], [1, 1, 1], [1, 0, 0]),
                BatchNorm3d::new(init, width),
                Relu::new(),
            ))
        } else {
            Self::Plain((
                Conv3d::new(init, [3, width], [3, 7, 7], [1, 2, 2], [1, 3, 3]),
                BatchNorm3d::new(init, width),
                Relu::new(),
            ))
        }
    }

    fn forward(&self, x: Tensor<5>, statistics: &mut BatchStatistics) -> Tensor<5> {
        match self {
            Self::Plain((conv, bn, _)) => {
                bn.forward(conv.forward_to(bn, x), After::Relu, statistics)
            }
            Self::Factored((spatial, bn1, _, temporal, bn2, _)) => {
                let x = bn1.forward(spatial.forward_to(bn1, x), After::Relu, statistics);
                bn2.forward(temporal.forward_to(bn2, x), After::Relu, statistics)
            }
        }
    }
}

/// One residual convolution in the stage's kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "16 per network; a few hundred bytes of handles")]
enum ResidualConv {
    Plain(Conv3d),
    Factored((Conv3d, BatchNorm3d, Relu, Conv3d)),
}

impl ResidualConv {
    /// `mid` is the width between the factored pair; other kinds ignore it.
    fn new(
        init: &mut Init,
        kind: ConvKind,
        channels: [usize; 2],
        mid: usize,
        stride: usize,
    ) -> Self {
        let [inputs, outputs] = channels;
        let spatial = ([1, 3, 3], [1, stride, stride], [0, 1, 1]);
        match kind {
            ConvKind::Full => {
                Self::Plain(Conv3d::new(init, channels, [3, 3, 3], [stride; 3], [1; 3]))
            }
            ConvKind::NoTemporal => {
                Self::Plain(Conv3d::new(init, channels, spatial.0, spatial.1, spatial.2))
            }
            ConvKind::Factored => Self::Factored((
                Conv3d::new(init, [inputs, mid], spatial.0, spatial.1, spatial.2),
                BatchNorm3d::new(init, mid),
                Relu::new(),
                Conv3d::new(init, [mid, outputs], [3, 1, 1], [stride, 1, 1], [1, 0, 0]),
            )),
        }
    }

    /// For the normalisation `next`, which follows.
    fn forward_to(
        &self,
        next: &BatchNorm3d,
        x: Tensor<5>,
        statistics: &mut BatchStatistics,
    ) -> Convolved {
        match self {
            Self::Plain(conv) => conv.forward_to(next, x),
            Self::Factored((spatial, bn, _, temporal)) => {
                let x = bn.forward(spatial.forward_to(bn, x), After::Relu, statistics);
                temporal.forward_to(next, x)
            }
        }
    }
}

/// Width between the two factors of a convolution, so that they have as many parameters as the
/// 3×3×3 one would have (Tran et al., section 3.5).
fn factored_width(inputs: usize, outputs: usize) -> usize {
    (inputs * outputs * 27) / (inputs * 9 + 3 * outputs)
}

/// conv, BN, ReLU, conv, BN, added to the (down-sampled) input, ReLU.
#[derive(Module, Debug)]
struct BasicBlock {
    conv1: (ResidualConv, BatchNorm3d),
    conv2: (ResidualConv, BatchNorm3d),
    downsample: Option<(Conv3d, BatchNorm3d)>,
}

impl BasicBlock {
    fn new(init: &mut Init, kind: ConvKind, channels: [usize; 2], stride: usize) -> Self {
        let [inputs, outputs] = channels;
        // torchvision takes it once per block, from the block's own widths, for both convolutions.
        let mid = factored_width(inputs, outputs);
        let downsample = (stride != 1 || inputs != outputs).then(|| {
            let time = if kind == ConvKind::NoTemporal { 1 } else { stride };
            let conv = Conv3d::new(init, channels, [1, 1, 1], [time, stride, stride], [0; 3]);
            (conv, BatchNorm3d::new(init, outputs))
        });
        Self {
            conv1: (
                ResidualConv::new(init, kind, channels, mid, stride),
                BatchNorm3d::new(init, outputs),
            ),
            conv2: (
                ResidualConv::new(init, kind, [outputs, outputs], mid, 1),
                BatchNorm3d::new(init, outputs),
            ),
            downsample,
        }
    }

    fn forward(&self, x: Tensor<5>, statistics: &mut BatchStatistics) -> Tensor<5> {
        let (conv1, bn1) = &self.conv1;
        let (conv2, bn2) = &self.conv2;
        let [x, shortcut] = half::fork(x);
        let out = conv1.forward_to(bn1, x, statistics);
        let out = bn1.forward(out, After::Relu, statistics);
        let out = conv2.forward_to(bn2, out, statistics);
        let shortcut = match &self.downsample {
            Some((conv, bn)) => {
                bn.forward(conv.forward_to(bn, shortcut), After::Nothing, statistics)
            }
            None => shortcut,
        };
        bn2.forward(out, After::AddRelu(shortcut), statistics)
    }
}

/// A 3D ResNet without its classifier: clips `[N, 3, T, H, W]` → features `[N, F]`.
#[derive(Module, Debug)]
pub struct Backbone {
    stem: Stem,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    layer4: Vec<BasicBlock>,
    /// Whether the clips, and with them every activation, are stored in half precision.
    half: bool,
}

/// Names of the parts that freeze and unfreeze together, input side first.
pub const STAGES: [&str; 5] = ["stem", "layer1", "layer2", "layer3", "layer4"];

impl Backbone {
    /// Builds the backbone with torchvision's random start.
    pub fn new(init: &mut Init, kind: BackboneKind) -> Self {
        let widths = kind.widths();
        let stem = Stem::new(init, kind);
        let mut stage = |index: usize| -> Vec<BasicBlock> {
            let outputs = widths[index];
            let inputs = if index == 0 { outputs } else { widths[index - 1] };
            let stride = if index == 0 { 1 } else { 2 };
            (0..kind.blocks_per_stage())
                .map(|block| {
                    let (inputs, stride) = if block == 0 { (inputs, stride) } else { (outputs, 1) };
                    BasicBlock::new(init, kind.conv_kind(index), [inputs, outputs], stride)
                })
                .collect()
        };
        let (layer1, layer2, layer3, layer4) = (stage(0), stage(1), stage(2), stage(3));
        Self { stem, layer1, layer2, layer3, layer4, half: false }
    }

    /// Stores activations in half precision or, as a new backbone does, in f32.
    #[must_use]
    pub fn with_half(self, half: bool) -> Self {
        Self { half, ..self }
    }

    /// Whether activations are stored in half precision.
    pub fn is_half(&self) -> bool {
        self.half
    }

    /// Freezes the stages that are not in `trainable`, batch-norm statistics included, and
    /// unfreezes the others.
    #[must_use]
    pub fn with_trainable(self, trainable: StageSet) -> Self {
        fn set<M: Module>(stage: M, trains: bool) -> M {
            if trains { stage.unfreeze() } else { stage.freeze() }
        }
        Self {
            stem: set(self.stem, trainable.contains(0)),
            layer1: set(self.layer1, trainable.contains(1)),
            layer2: set(self.layer2, trainable.contains(2)),
            layer3: set(self.layer3, trainable.contains(3)),
            layer4: set(self.layer4, trainable.contains(4)),
            half: self.half,
        }
    }

    /// Features `[N, F]`: the last stage averaged over T, H, W. While training, the running
    /// statistics of batch normalisation are updated at once.
    pub fn forward(&self, clips: Tensor<5>) -> Tensor<2> {
        let (features, statistics) = self.forward_with_statistics(clips);
        statistics.apply();
        features
    }

    /// Features `[N, F]`, and the batch statistics, which have not yet been applied.
    pub fn forward_with_statistics(&self, clips: Tensor<5>) -> (Tensor<2>, BatchStatistics) {
        self.forward_into(clips, BatchStatistics::default())
    }

    /// The same, with batch statistics that say how they are gathered.
    pub(super) fn forward_into(
        &self,
        clips: Tensor<5>,
        mut statistics: BatchStatistics,
    ) -> (Tensor<2>, BatchStatistics) {
        let parts = self.parts(0);
        let x = parts.iter().fold(clips, |x, part| part.forward(x, &mut statistics));
        (average(x), statistics)
    }

    /// Output of stage `index` of [`STAGES`], given its input.
    ///
    /// # Panics
    /// If `index` is not below `STAGES.len()`.
    pub fn forward_stage(&self, index: usize, x: Tensor<5>) -> Tensor<5> {
        assert!(index < STAGES.len(), "a backbone has {} stages, asked for {index}", STAGES.len());
        let mut statistics = BatchStatistics::default();
        let parts = self.parts(index);
        let stage = parts.iter().take_while(|part| part.stage == index);
        let output = stage.fold(x, |x, part| part.forward(x, &mut statistics));
        statistics.apply();
        output
    }

    /// The stages with a parameter that wants a gradient.
    pub fn trainable(&self) -> StageSet {
        let trains = self.parts(0).into_iter().filter(Part::trains);
        trains.fold(StageSet::NONE, |set, part| set.with(part.stage))
    }

    /// The lowest stage with a parameter that wants a gradient; `None` where all are frozen.
    pub fn lowest_trainable(&self) -> Option<usize> {
        self.parts(0).iter().find(|part| part.trains()).map(|part| part.stage)
    }

    /// Its batch-norm layers, in the order in which they run.
    pub(super) fn norms(&self) -> Vec<&BatchNorm3d> {
        self.parts(0).iter().flat_map(Part::norms).collect()
    }

    /// The parts of the stages from `stage` on, in order.
    pub(super) fn parts(&self, stage: usize) -> Vec<Part<'_>> {
        let stem = Part { stage: 0, kind: PartKind::Stem { stem: &self.stem, half: self.half } };
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        let blocks = (1..).zip(stages).flat_map(|(stage, blocks)| {
            blocks.iter().map(move |block| Part { stage, kind: PartKind::Block(block) })
        });
        std::iter::once(stem).chain(blocks).filter(|part| part.stage >= stage).collect()
    }
}

/// Features `[N, F]` of the last stage's `[N, F, T, H, W]`, in f32.
pub(super) fn average(x: Tensor<5>) -> Tensor<2> {
    let [n, c, t, h, w] = x.dims();
    half::to_float(x).reshape([n, c, t * h * w]).mean_dim(2).reshape([n, c])
}

/// The stem or a residual block: what the backbone is computed in when memory is short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// Its stage in [`STAGES`].
    pub stage: usize,
    kind: PartKind<'a>,
}

#[derive(Debug, Clone, Copy)]
enum PartKind<'a> {
    /// With `half` it begins with clips in half precision, as its layers and all after it then are.
    Stem {
        stem: &'a Stem,
        half: bool,
    },
    Block(&'a BasicBlock),
}

impl<'a> Part<'a> {
    /// Whether a parameter of it wants a gradient.
    fn trains(&self) -> bool {
        match self.kind {
            PartKind::Stem { stem, .. } => parameter_count(stem) > 0,
            PartKind::Block(block) => parameter_count(block) > 0,
        }
    }

    fn norms(&self) -> Vec<&'a BatchNorm3d> {
        let within = |conv: &'a ResidualConv| match conv {
            ResidualConv::Plain(_) => None,
            ResidualConv::Factored((_, norm, ..)) => Some(norm),
        };
        match self.kind {
            PartKind::Stem { stem: Stem::Plain((_, norm, _)), .. } => vec![norm],
            PartKind::Stem { stem: Stem::Factored((_, first, .., second, _)), .. } => {
                vec![first, second]
            }
            PartKind::Block(BasicBlock { conv1, conv2, downsample }) => {
                let convs = [conv1, conv2].into_iter();
                let norms = convs.flat_map(|(conv, norm)| within(conv).into_iter().chain([norm]));
                norms.chain(downsample.as_ref().map(|(_, norm)| norm)).collect()
            }
        }
    }

    pub(super) fn forward(&self, x: Tensor<5>, statistics: &mut BatchStatistics) -> Tensor<5> {
        match self.kind {
            PartKind::Stem { stem, half } => stem.forward(half::stored(x, half), statistics),
            PartKind::Block(block) => block.forward(x, statistics),
        }
    }
}
