//! The stem and the residual blocks. Each is a chain of convolutions with their batch norms. Field names
//! and positions in tuples match the parameter names in the public weight files.

use burn::module::Module;
use burn::nn::Relu;
use burn::tensor::Tensor;

use super::clips::as_hara;
use super::kind::{ConvKind, Family, Spec};
use super::pool::max_pool;
use crate::half;
use crate::model::layers::{BatchNorm3d, Conv3d, Init, Normalised};
use crate::model::statistics::BatchStatistics;
use crate::norm::After;

/// A convolution and the batch norm of its output.
pub(crate) type Unit<'a> = (&'a Conv3d, &'a BatchNorm3d);

/// Runs a convolution, its batch norm, and then `after`.
fn run(
    (conv, norm): Unit<'_>,
    x: Normalised,
    after: After,
    statistics: &mut BatchStatistics,
) -> Normalised {
    norm.forward(conv.forward_to(norm, x), after, statistics)
}

/// Runs several units in sequence, with a ReLU after each.
fn run_all(units: &[Unit<'_>], x: Tensor<5>, statistics: &mut BatchStatistics) -> Normalised {
    units.iter().fold(x.into(), |x, &unit| run(unit, x, After::Relu, statistics))
}

/// Creates the layers of a backbone.
pub(super) struct Builder<'a> {
    pub init: &'a mut Init,
    pub spec: Spec,
}

impl Builder<'_> {
    fn norm(&mut self, channels: usize) -> BatchNorm3d {
        BatchNorm3d::new(self.init, channels, self.spec.epsilon)
    }

    fn conv(
        &mut self,
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> Conv3d {
        Conv3d::new(self.init, channels, kernel, stride, padding)
    }

    /// Creates a 3×3×3 convolution with padding 1.
    fn full(&mut self, channels: [usize; 2], stride: usize) -> Conv3d {
        self.conv(channels, [3; 3], [stride; 3], [1; 3])
    }

    /// Creates a 1×1×1 convolution.
    fn pointwise(&mut self, channels: [usize; 2], stride: [usize; 3]) -> Conv3d {
        self.conv(channels, [1; 3], stride, [0; 3])
    }
}

/// The stem: `[N, 3, T, H, W]` → `[N, C, T, H/2, W/2]`, or `[N, C, T/2, H/4, W/4]` if pooled.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one per network; a few hundred bytes of handles")]
pub(super) enum Stem {
    Plain((Conv3d, BatchNorm3d, Relu)),
    Factored((Conv3d, BatchNorm3d, Relu, Conv3d, BatchNorm3d, Relu)),
    Pooled(PooledStem),
}

/// Stem of Hara et al.'s networks, without the max pooling.
#[derive(Module, Debug)]
pub(super) struct PooledStem {
    conv1: Conv3d,
    bn1: BatchNorm3d,
}

impl Stem {
    pub(super) fn new(build: &mut Builder<'_>) -> Self {
        let width = build.spec.widths[0];
        let (spatial, stride) = ([1, 7, 7], [1, 2, 2]);
        if build.spec.family == Family::Hara {
            return Self::Pooled(PooledStem {
                conv1: build.conv([3, width], [7; 3], stride, [3; 3]),
                bn1: build.norm(width),
            });
        }
        if let ConvKind::Factored(_) = build.spec.convolutions[0] {
            Self::Factored((
                build.conv([3, 45], spatial, stride, [0, 3, 3]),
                build.norm(45),
                Relu::new(),
                build.conv([45, width], [3, 1, 1], [1; 3], [1, 0, 0]),
                build.norm(width),
                Relu::new(),
            ))
        } else {
            Self::Plain((
                build.conv([3, width], [3, 7, 7], stride, [1, 3, 3]),
                build.norm(width),
                Relu::new(),
            ))
        }
    }

    pub(super) fn units(&self) -> Vec<Unit<'_>> {
        match self {
            Self::Plain((conv, norm, _)) => vec![(conv, norm)],
            Self::Factored((spatial, norm1, _, temporal, norm2, _)) => {
                vec![(spatial, norm1), (temporal, norm2)]
            }
            Self::Pooled(PooledStem { conv1, bn1 }) => vec![(conv1, bn1)],
        }
    }

    /// Whether max pooling follows.
    pub(super) fn is_pooled(&self) -> bool {
        matches!(self, Self::Pooled(_))
    }

    /// Converts the clips to the normalisation that the public weights were trained with.
    pub(super) fn normalised(&self, clips: Tensor<5>) -> Tensor<5> {
        match self {
            Self::Plain(_) | Self::Factored(_) => clips,
            Self::Pooled(_) => as_hara(clips),
        }
    }

    pub(super) fn forward(&self, x: Tensor<5>, statistics: &mut BatchStatistics) -> Tensor<5> {
        let x = run_all(&self.units(), x, statistics).output;
        if self.is_pooled() { max_pool(x) } else { x }
    }
}

/// A residual block: its units with a ReLU after each; before the last ReLU, the (down-sampled) input is
/// added.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "16 per network; a few hundred bytes of handles")]
pub(super) enum Block {
    Torchvision(TorchvisionBlock),
    Hara(HaraBlock),
}

impl Block {
    pub(super) fn new(
        build: &mut Builder<'_>,
        stage: usize,
        inputs: usize,
        width: usize,
        stride: usize,
    ) -> Self {
        match build.spec.family {
            Family::Torchvision => {
                let kind = build.spec.convolutions[stage];
                Self::Torchvision(TorchvisionBlock::new(build, kind, [inputs, width], stride))
            }
            Family::Hara => Self::Hara(HaraBlock::new(build, inputs, width, stride)),
        }
    }

    /// Returns the units of the main path, without the shortcut's.
    pub(super) fn units(&self) -> Vec<Unit<'_>> {
        match self {
            Self::Torchvision(TorchvisionBlock { conv1, conv2, .. }) => {
                conv1.0.units(&conv1.1).into_iter().chain(conv2.0.units(&conv2.1)).collect()
            }
            Self::Hara(HaraBlock { conv1, bn1, conv2, bn2, conv3, bn3, .. }) => {
                let third = conv3.as_ref().zip(bn3.as_ref());
                [(conv1, bn1), (conv2, bn2)].into_iter().chain(third).collect()
            }
        }
    }

    /// Returns the projection of the input to the size of the output, if the sizes differ.
    pub(super) fn shortcut(&self) -> Option<Unit<'_>> {
        let (Self::Torchvision(TorchvisionBlock { downsample, .. })
        | Self::Hara(HaraBlock { downsample, .. })) = self;
        downsample.as_ref().map(|(conv, norm)| (conv, norm))
    }

    pub(super) fn forward(&self, x: Tensor<5>, statistics: &mut BatchStatistics) -> Tensor<5> {
        let [x, shortcut] = half::fork(x);
        let units = self.units();
        let ((last, norm), before) = units.split_last().expect("a block has convolutions");
        let x = last.forward_to(norm, run_all(before, x, statistics));
        let shortcut = match self.shortcut() {
            Some(unit) => run(unit, shortcut.into(), After::Nothing, statistics).output,
            None => shortcut,
        };
        norm.forward(x, After::AddRelu(shortcut), statistics).output
    }
}

/// Convolution, BN, ReLU, convolution, BN.
#[derive(Module, Debug)]
pub(super) struct TorchvisionBlock {
    conv1: (ResidualConv, BatchNorm3d),
    conv2: (ResidualConv, BatchNorm3d),
    downsample: Option<(Conv3d, BatchNorm3d)>,
}

impl TorchvisionBlock {
    fn new(build: &mut Builder<'_>, kind: ConvKind, channels: [usize; 2], stride: usize) -> Self {
        let [inputs, outputs] = channels;
        let downsample = (stride != 1 || inputs != outputs).then(|| {
            let time = if kind == ConvKind::NoTemporal { 1 } else { stride };
            (build.pointwise(channels, [time, stride, stride]), build.norm(outputs))
        });
        Self {
            conv1: (
                ResidualConv::new(build, kind, channels, channels, stride),
                build.norm(outputs),
            ),
            conv2: (
                ResidualConv::new(build, kind, [outputs, outputs], channels, 1),
                build.norm(outputs),
            ),
            downsample,
        }
    }
}

/// A residual block's convolution, of the stage's kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "32 per network; a few hundred bytes of handles")]
enum ResidualConv {
    Plain(Conv3d),
    Factored((Conv3d, BatchNorm3d, Relu, Conv3d)),
}

impl ResidualConv {
    /// Creates the convolution, in a block from and to the channels `block`.
    fn new(
        build: &mut Builder<'_>,
        kind: ConvKind,
        channels: [usize; 2],
        block: [usize; 2],
        stride: usize,
    ) -> Self {
        let [inputs, outputs] = channels;
        let spatial = ([1, 3, 3], [1, stride, stride], [0, 1, 1]);
        match kind {
            ConvKind::Full => Self::Plain(build.full(channels, stride)),
            ConvKind::NoTemporal => {
                Self::Plain(build.conv(channels, spatial.0, spatial.1, spatial.2))
            }
            ConvKind::Factored(factors) => {
                let mid = factors.width(channels, block);
                Self::Factored((
                    build.conv([inputs, mid], spatial.0, spatial.1, spatial.2),
                    build.norm(mid),
                    Relu::new(),
                    build.conv([mid, outputs], [3, 1, 1], [stride, 1, 1], [1, 0, 0]),
                ))
            }
        }
    }

    /// Returns the units, given the batch norm that follows.
    fn units<'a>(&'a self, norm: &'a BatchNorm3d) -> Vec<Unit<'a>> {
        match self {
            Self::Plain(conv) => vec![(conv, norm)],
            Self::Factored((spatial, between, _, temporal)) => {
                vec![(spatial, between), (temporal, norm)]
            }
        }
    }
}

/// Two 3×3×3 convolutions or, with `conv3` and `bn3`, a bottleneck of 1×1×1, 3×3×3 and 1×1×1, where the
/// 3×3×3 has the stride.
#[derive(Module, Debug)]
pub(super) struct HaraBlock {
    conv1: Conv3d,
    bn1: BatchNorm3d,
    conv2: Conv3d,
    bn2: BatchNorm3d,
    conv3: Option<Conv3d>,
    bn3: Option<BatchNorm3d>,
    downsample: Option<(Conv3d, BatchNorm3d)>,
}

impl HaraBlock {
    fn new(build: &mut Builder<'_>, inputs: usize, width: usize, stride: usize) -> Self {
        let bottleneck = build.spec.bottlenecks;
        let outputs = build.spec.expansion() * width;
        let (conv1, stride2) = if bottleneck {
            (build.pointwise([inputs, width], [1; 3]), stride)
        } else {
            (build.full([inputs, width], stride), 1)
        };
        Self {
            conv1,
            bn1: build.norm(width),
            conv2: build.full([width, width], stride2),
            bn2: build.norm(width),
            conv3: bottleneck.then(|| build.pointwise([width, outputs], [1; 3])),
            bn3: bottleneck.then(|| build.norm(outputs)),
            downsample: (stride != 1 || inputs != outputs)
                .then(|| (build.pointwise([inputs, outputs], [stride; 3]), build.norm(outputs))),
        }
    }
}
