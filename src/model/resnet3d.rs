//! Video ResNets: those of Tran et al. 2018 ("A Closer Look at Spatiotemporal Convolutions for Action
//! Recognition"), as torchvision.models.video builds them, and of Hara et al. 2018 ("Can Spatiotemporal
//! 3D CNNs Retrace the History of 2D CNNs and ImageNet?"), under the parameter names of their public
//! weights.
//!
//! There is one network type: a stem and four stages of residual blocks. The backbones differ in those
//! parts, in the kind of convolution per stage, and in width. A tuple stands for each `nn.Sequential` of
//! torchvision, which gives the same numbers in the parameter names.

mod blocks;
mod clips;
mod kind;
mod pool;
mod shapes;

pub use kind::BackboneKind;
pub use shapes::PartShapes;

use burn::module::Module;
use burn::tensor::Tensor;

use super::layers::{BatchNorm3d, Init};
use super::parameter_count;
use super::stages::StageSet;
use super::statistics::BatchStatistics;
use crate::half;
pub(crate) use blocks::Unit;
use blocks::{Block, Builder, Stem};
use kind::Spec;
use pool::pooled;

/// A 3D ResNet without its classifier: clips `[N, 3, T, H, W]` → features `[N, F]`.
#[derive(Module, Debug)]
pub struct Backbone {
    stem: Stem,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    /// Whether the clips, and with them every activation, are stored in half precision.
    half: bool,
}

/// Names of the parts that freeze and unfreeze together, input side first.
pub const STAGES: [&str; 5] = ["stem", "layer1", "layer2", "layer3", "layer4"];

impl BackboneKind {
    /// Mean and standard deviation per colour channel with which the backbone's clips are normalised.
    pub(crate) fn clip_statistics(self) -> [[f32; 3]; 2] {
        clips::statistics(self)
    }
}

impl Backbone {
    /// Builds the backbone with PyTorch's random initialisation.
    pub fn new(init: &mut Init, kind: BackboneKind) -> Self {
        let mut build = Builder { init, spec: kind.spec() };
        let stem = Stem::new(&mut build);
        let Spec { widths, blocks, .. } = build.spec;
        let expansion = build.spec.expansion();
        let mut inputs = widths[0];
        let mut stage = |index: usize| -> Vec<Block> {
            let width = widths[index];
            (0..blocks[index])
                .map(|block| {
                    let stride = if index > 0 && block == 0 { 2 } else { 1 };
                    let block = Block::new(&mut build, index, inputs, width, stride);
                    inputs = expansion * width;
                    block
                })
                .collect()
        };
        let (layer1, layer2, layer3, layer4) = (stage(0), stage(1), stage(2), stage(3));
        Self { stem, layer1, layer2, layer3, layer4, half: false }
    }

    /// Selects whether activations are stored in half precision or in f32, the default.
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

    /// Returns the features `[N, F]`: the last stage averaged over T, H, W. While training, the
    /// running statistics of batch normalisation are updated immediately.
    pub fn forward(&self, clips: Tensor<5>) -> Tensor<2> {
        let (features, statistics) = self.forward_with_statistics(clips);
        statistics.apply();
        features
    }

    /// Returns the features `[N, F]` and the batch statistics, which have not been applied yet.
    pub fn forward_with_statistics(&self, clips: Tensor<5>) -> (Tensor<2>, BatchStatistics) {
        self.forward_into(clips, BatchStatistics::default())
    }

    /// Like [`Backbone::forward_with_statistics`], adding to `statistics`, which may be exchanged with
    /// other lanes.
    pub(super) fn forward_into(
        &self,
        clips: Tensor<5>,
        mut statistics: BatchStatistics,
    ) -> (Tensor<2>, BatchStatistics) {
        let parts = self.parts(0);
        let x = parts.iter().fold(clips, |x, part| part.forward(x, &mut statistics));
        (average(x), statistics)
    }

    /// Returns the output of stage `index` of [`STAGES`], given its input.
    ///
    /// # Panics
    /// If `index` is not below `STAGES.len()`.
    pub fn forward_stage(&self, index: usize, x: Tensor<5>) -> Tensor<5> {
        assert!(
            index < STAGES.len(),
            "a backbone has {} stages, not a stage {index}",
            STAGES.len()
        );
        let mut statistics = BatchStatistics::default();
        let parts = self.parts(index);
        let stage = parts.iter().take_while(|part| part.stage == index);
        let output = stage.fold(x, |x, part| part.forward(x, &mut statistics));
        statistics.apply();
        output
    }

    /// Returns the stages with a parameter that requires a gradient.
    pub fn trainable(&self) -> StageSet {
        let trains = self.parts(0).into_iter().filter(Part::trains);
        trains.fold(StageSet::NONE, |set, part| set.with(part.stage))
    }

    /// Returns the lowest stage with a parameter that requires a gradient; `None` if all are frozen.
    pub fn lowest_trainable(&self) -> Option<usize> {
        self.parts(0).iter().find(|part| part.trains()).map(|part| part.stage)
    }

    /// Returns the batch-norm layers, in the order in which they run.
    pub(super) fn norms(&self) -> Vec<&BatchNorm3d> {
        self.parts(0).iter().flat_map(Part::norms).collect()
    }

    /// Returns the parts of the stages from `stage` on, in order.
    pub(crate) fn parts(&self, stage: usize) -> Vec<Part<'_>> {
        let stem = Part { stage: 0, kind: PartKind::Stem { stem: &self.stem, half: self.half } };
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        let blocks = (1..).zip(stages).flat_map(|(stage, blocks)| {
            blocks.iter().map(move |block| Part { stage, kind: PartKind::Block(block) })
        });
        std::iter::once(stem).chain(blocks).filter(|part| part.stage >= stage).collect()
    }
}

/// Averages the last stage's output `[N, F, T, H, W]` to the features `[N, F]`, in f32.
pub(super) fn average(x: Tensor<5>) -> Tensor<2> {
    let [n, c, t, h, w] = x.dims();
    half::to_float(x).reshape([n, c, t * h * w]).mean_dim(2).reshape([n, c])
}

/// The stem or a residual block: the unit of recomputation with gradient checkpointing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The part's stage in [`STAGES`].
    pub stage: usize,
    kind: PartKind<'a>,
}

#[derive(Debug, Clone, Copy)]
enum PartKind<'a> {
    /// With `half`, the clips are converted to half precision first; all later activations
    /// are then in half precision too.
    Stem {
        stem: &'a Stem,
        half: bool,
    },
    Block(&'a Block),
}

impl<'a> Part<'a> {
    /// Whether a parameter of the part requires a gradient.
    fn trains(&self) -> bool {
        match self.kind {
            PartKind::Stem { stem, .. } => parameter_count(stem) > 0,
            PartKind::Block(block) => parameter_count(block) > 0,
        }
    }

    /// Returns the part's convolutions with their batch norms, in order, without the shortcut's.
    pub(crate) fn units(&self) -> Vec<Unit<'a>> {
        match self.kind {
            PartKind::Stem { stem, .. } => stem.units(),
            PartKind::Block(block) => block.units(),
        }
    }

    /// Returns the projection of a block's input to the size of its output, if the sizes differ.
    pub(crate) fn shortcut(&self) -> Option<Unit<'a>> {
        match self.kind {
            PartKind::Stem { .. } => None,
            PartKind::Block(block) => block.shortcut(),
        }
    }

    /// Whether the part is a residual block, whose input is added to its result.
    pub(crate) fn is_block(&self) -> bool {
        matches!(self.kind, PartKind::Block(_))
    }

    /// Returns the sizes `[N, C, T, H, W]` after the two steps of max pooling, over H and W and then over
    /// T; `None` if no max pooling follows.
    pub(crate) fn pooling(&self, size: [usize; 5]) -> Option<[[usize; 5]; 2]> {
        let is_pooled = matches!(self.kind, PartKind::Stem { stem, .. } if stem.is_pooled());
        is_pooled.then(|| pooled(size))
    }

    fn norms(&self) -> impl Iterator<Item = &'a BatchNorm3d> {
        self.units().into_iter().chain(self.shortcut()).map(|(_, norm)| norm)
    }

    pub(super) fn forward(&self, x: Tensor<5>, statistics: &mut BatchStatistics) -> Tensor<5> {
        match self.kind {
            PartKind::Stem { stem, half } => {
                stem.forward(half::stored(stem.normalised(x), half), statistics)
            }
            PartKind::Block(block) => block.forward(x, statistics),
        }
    }
}
