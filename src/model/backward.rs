//! Forward and backward passes of the backbone for clips that do not all fit in memory at once. The
//! backbone's gradients are computed separately from the heads', one group of clips at a time and,
//! with gradient checkpointing, one part of the network at a time.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};

use super::resnet3d::{Backbone, average};
use super::statistics::BatchStatistics;
use crate::half::to_float;
use crate::norm::Exchange;

/// The backbone's forward pass over some clips, with what its backward pass needs.
#[derive(Debug)]
pub(crate) struct BackbonePass {
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
    /// The inputs of the parts from stage `from` on; each part is recomputed in the backward pass
    /// (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    Inputs { from: usize, inputs: Vec<Tensor<5>>, exchange: Option<Arc<dyn Exchange>> },
}

impl BackbonePass {
    /// Runs `clips [N, 3, T, H, W]` through the backbone; `checkpointing` keeps the parts' inputs
    /// alone. With an `exchange` they are normalised together with the clips of other lanes, in the
    /// backward pass too. Returns the batch statistics, which have not been applied.
    pub(crate) fn new(
        backbone: &Backbone,
        clips: Tensor<5>,
        checkpointing: bool,
        exchange: Option<Arc<dyn Exchange>>,
    ) -> (Self, BatchStatistics) {
        let mut statistics = BatchStatistics::across(exchange.clone());
        let Some(from) = backbone.lowest_trainable() else {
            let (features, statistics) = backbone.forward_into(clips, statistics);
            return (Self { features: detached(features), kept: Kept::Nothing }, statistics);
        };
        if !checkpointing {
            let (features, statistics) = backbone.forward_into(clips, statistics);
            let kept = Kept::Graph(features.clone());
            return (Self { features: detached(features), kept }, statistics);
        }
        let without_graph = without_graph(backbone);
        let mut inputs = Vec::new();
        let mut x = clips;
        for part in without_graph.parts(0) {
            if part.stage >= from {
                inputs.push(x.clone().inner());
            }
            x = part.forward(x, &mut statistics);
        }
        let kept = Kept::Inputs { from, inputs, exchange };
        (Self { features: detached(average(x)), kept }, statistics)
    }

    /// `[N, F]`, outside any graph.
    pub(crate) fn features(&self) -> Tensor<2> {
        self.features.clone()
    }

    /// The backbone's gradients, given the loss's gradient with respect to the features, `[N, F]`.
    pub(crate) fn backward(self, backbone: &Backbone, grad_features: Tensor<2>) -> GradientsParams {
        match self.kept {
            Kept::Nothing => GradientsParams::new(),
            Kept::Graph(features) => {
                GradientsParams::from_grads(backpropagate(features, grad_features), backbone)
            }
            Kept::Inputs { from, inputs, exchange } => {
                recompute(backbone, from, inputs, grad_features, exchange.as_ref())
            }
        }
    }
}

/// The backward pass through the parts from stage `from` on, last first, each recomputed from its
/// input.
fn recompute(
    backbone: &Backbone,
    from: usize,
    inputs: Vec<Tensor<5>>,
    grad_features: Tensor<2>,
    exchange: Option<&Arc<dyn Exchange>>,
) -> GradientsParams {
    let mut sum = GradientsAccumulator::new();
    let mut grad_output: Option<Tensor<5>> = None;
    let parts: Vec<_> = backbone.parts(from).into_iter().zip(inputs).collect();
    for (index, (part, input)) in parts.into_iter().enumerate().rev() {
        let input = Tensor::from_inner(input);
        // Nothing needs the gradient of what comes from below the lowest trainable stage.
        let input = if index == 0 { input } else { input.require_grad() };
        // The statistics of these clips have been counted in the forward pass.
        let mut statistics = BatchStatistics::across(exchange.cloned());
        let output = part.forward(input.clone(), &mut statistics);
        let mut grads = match grad_output.take() {
            Some(grad_output) => backpropagate(output, grad_output),
            None => backpropagate(average(output), grad_features.clone()),
        };
        grad_output = input.grad_remove(&mut grads);
        sum.accumulate(backbone, GradientsParams::from_grads(grads, backbone));
    }
    sum.grads()
}

/// Features `[N, F]` of clips outside any graph, and the batch statistics: the first of two forward
/// passes over clips whose backward pass starts from a second one.
pub(crate) fn features_only(
    backbone: &Backbone,
    clips: Tensor<5>,
    exchange: Option<Arc<dyn Exchange>>,
) -> (Tensor<2>, BatchStatistics) {
    let statistics = BatchStatistics::across(exchange);
    let (features, statistics) = without_graph(backbone).forward_into(clips, statistics);
    (detached(features), statistics)
}

/// The same backbone, with the same running statistics, that records no graph.
fn without_graph(backbone: &Backbone) -> Backbone {
    backbone.clone().no_grad()
}

fn detached(features: Tensor<2>) -> Tensor<2> {
    Tensor::from_inner(features.inner())
}

/// Gradients of everything that led to `output`, given the loss's gradient with respect to it:
/// those of Σ output·gradient, in f32.
fn backpropagate<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Gradients {
    to_float(output).mul(to_float(Tensor::from_inner(gradient))).sum().backward()
}
