//! The backbone's way there and back for clips that do not all fit in memory at once: its
//! gradients come apart from the heads', group of clips by group, part by part if need be.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};

use super::resnet3d::average;
use super::{Backbone, statistics};

/// Clips that have gone through the backbone, and what their gradients' way back needs.
#[derive(Debug)]
pub struct BackbonePass {
    features: Tensor<2>,
    kept: Kept,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one per step; a few hundred bytes of handles")]
enum Kept {
    /// The backbone is frozen.
    Nothing,
    /// Everything, in Burn's graph of these features.
    Graph(Tensor<2>),
    /// The inputs of the parts from stage `from` on; each part is computed again on the way back
    /// (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    Inputs { from: usize, inputs: Vec<Tensor<5>> },
}

impl BackbonePass {
    /// Sends `clips [N, 3, T, H, W]` through; `checkpointing` keeps the parts' inputs alone.
    pub fn new(backbone: &Backbone, clips: Tensor<5>, checkpointing: bool) -> Self {
        let Some(from) = backbone.lowest_trainable() else {
            let features = cut(backbone.forward(clips));
            return Self { features, kept: Kept::Nothing };
        };
        if !checkpointing {
            let features = backbone.forward(clips);
            return Self { features: cut(features.clone()), kept: Kept::Graph(features) };
        }
        let quiet = without_graph(backbone);
        let mut inputs = Vec::new();
        let mut x = clips;
        for part in quiet.parts(0) {
            if part.stage >= from {
                inputs.push(x.clone().inner());
            }
            x = part.forward(x);
        }
        Self { features: cut(average(x)), kept: Kept::Inputs { from, inputs } }
    }

    /// `[N, F]`, without history.
    pub fn features(&self) -> Tensor<2> {
        self.features.clone()
    }

    /// The backbone's gradients, given the loss's by the features, `[N, F]`.
    pub fn backward(self, backbone: &Backbone, by_features: Tensor<2>) -> GradientsParams {
        match self.kept {
            Kept::Nothing => GradientsParams::new(),
            Kept::Graph(features) => {
                GradientsParams::from_grads(pull(features, by_features), backbone)
            }
            Kept::Inputs { from, inputs } => by_parts(backbone, from, inputs, by_features),
        }
    }
}

/// The way back through the parts from stage `from` on, last first.
fn by_parts(
    backbone: &Backbone,
    from: usize,
    inputs: Vec<Tensor<5>>,
    by_features: Tensor<2>,
) -> GradientsParams {
    let mut sum = GradientsAccumulator::new();
    let mut by_output: Option<Tensor<5>> = None;
    let parts: Vec<_> = backbone.parts(from).into_iter().zip(inputs).collect();
    for (index, (part, input)) in parts.into_iter().enumerate().rev() {
        let input = Tensor::from_inner(input);
        // Nothing asks for the gradient of what comes from below the lowest trainable stage.
        let input = if index == 0 { input } else { input.require_grad() };
        let output = statistics::ignore(|| part.forward(input.clone()));
        let mut grads = match by_output.take() {
            Some(by_output) => pull(output, by_output),
            None => pull(average(output), by_features.clone()),
        };
        by_output = input.grad_remove(&mut grads);
        sum.accumulate(backbone, GradientsParams::from_grads(grads, backbone));
    }
    sum.grads()
}

/// Features `[N, F]` of clips, without history: what a step needs to know of clips whose way back
/// begins with another way there.
pub fn features_only(backbone: &Backbone, clips: Tensor<5>) -> Tensor<2> {
    cut(without_graph(backbone).forward(clips))
}

/// The same backbone, with the same running statistics, of whose work no graph is kept.
fn without_graph(backbone: &Backbone) -> Backbone {
    backbone.clone().no_grad()
}

/// Without history.
fn cut(features: Tensor<2>) -> Tensor<2> {
    Tensor::from_inner(features.inner())
}

/// Gradients of everything that led to `output`, given the loss's by it: those of Σ output·by.
fn pull<const D: usize>(output: Tensor<D>, by: Tensor<D>) -> Gradients {
    output.mul(Tensor::from_inner(by)).sum().backward()
}
