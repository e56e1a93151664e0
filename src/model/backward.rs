//! Forward and backward passes of the backbone for clips that do not all fit in memory at once. The
//! backbone's gradients are computed separately from the heads', one group of clips at a time and,
//! with gradient checkpointing, one part of the network at a time.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};

use super::given_gradient::with_gradient;
use super::resnet3d::{Backbone, average};
use super::statistics::BatchStatistics;
use crate::norm::Exchange;

/// The backbone's forward pass over some clips, with the values that its backward pass needs.
#[derive(Debug)]
pub(crate) struct BackbonePass {
    features: Tensor<2>,
    kept: Kept,
}

/// Which values a forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Everything.
    All,
    /// Everything, with a graph per stage, so that a stage's gradients are available before those of
    /// the stages below it.
    Stages,
    /// Only the inputs of the network's parts.
    Inputs,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one per step; a few hundred bytes of handles")]
enum Kept {
    /// The backbone is frozen.
    Nothing,
    /// Everything, in Burn's graph of these features.
    Graph(Tensor<2>),
    /// Everything, in one graph per stage; `features` belong to the graph of the last stage.
    Stages { stages: Vec<StageGraph>, features: Tensor<2> },
    /// The inputs of the parts from stage `from` on; each part is recomputed in the backward pass
    /// (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    Inputs { from: usize, inputs: Vec<Tensor<5>>, exchange: Option<Arc<dyn Exchange>> },
}

/// A stage's own graph.
#[derive(Debug)]
struct StageGraph {
    stage: usize,
    /// Input of the stage; `None` for the lowest trainable stage.
    input: Option<Tensor<5>>,
    output: Tensor<5>,
}

impl BackbonePass {
    /// Runs `clips [N, 3, T, H, W]` through the backbone. With an `exchange` they are normalised together
    /// with the clips of other lanes, in the backward pass too. Also returns the batch statistics, which
    /// have not been applied yet.
    pub(crate) fn new(
        backbone: &Backbone,
        clips: Tensor<5>,
        keep: Keep,
        exchange: Option<Arc<dyn Exchange>>,
    ) -> (Self, BatchStatistics) {
        let mut statistics = BatchStatistics::across(exchange.clone());
        let Some(from) = backbone.lowest_trainable() else {
            let (features, statistics) = backbone.forward_into(clips, statistics);
            return (Self { features: detached(features), kept: Kept::Nothing }, statistics);
        };
        match keep {
            Keep::All => {
                let (features, statistics) = backbone.forward_into(clips, statistics);
                let kept = Kept::Graph(features.clone());
                return (Self { features: detached(features), kept }, statistics);
            }
            Keep::Stages => {
                let (stages, features) = by_stages(backbone, from, clips, &mut statistics);
                let kept = Kept::Stages { stages, features: features.clone() };
                return (Self { features: detached(features), kept }, statistics);
            }
            Keep::Inputs => {}
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

    /// Returns the features `[N, F]`, outside any graph.
    pub(crate) fn features(&self) -> Tensor<2> {
        self.features.clone()
    }

    /// Computes the backbone's gradients from the loss's gradient with respect to the features,
    /// `[N, F]`. Calls `done` with gradients as soon as their computation is queued, and with the lowest
    /// stage they belong to: once, or once per stage if the stages have their own graphs.
    pub(crate) fn backward(
        self,
        backbone: &Backbone,
        grad_features: Tensor<2>,
        mut done: impl FnMut(usize, GradientsParams),
    ) {
        match self.kept {
            Kept::Nothing => {}
            Kept::Graph(features) => {
                let grads = backpropagate(features, grad_features);
                done(0, GradientsParams::from_grads(grads, backbone));
            }
            Kept::Stages { stages, features } => {
                let mut root = with_gradient(features, grad_features);
                let mut below = stages.into_iter().rev().peekable();
                while let Some(StageGraph { stage, input, .. }) = below.next() {
                    let mut grads = root.backward();
                    let gradient = input.and_then(|input| input.grad_remove(&mut grads));
                    done(stage, GradientsParams::from_grads(grads, backbone));
                    let (Some(next), Some(gradient)) = (below.peek(), gradient) else { break };
                    root = with_gradient(next.output.clone(), Tensor::from_inner(gradient));
                }
            }
            Kept::Inputs { from, inputs, exchange } => {
                done(0, recompute(backbone, from, inputs, grad_features, exchange.as_ref()));
            }
        }
    }
}

/// Runs a forward pass in which each stage from `from` on has its own graph; returns the graphs and the
/// features.
fn by_stages(
    backbone: &Backbone,
    from: usize,
    clips: Tensor<5>,
    statistics: &mut BatchStatistics,
) -> (Vec<StageGraph>, Tensor<2>) {
    let mut graphs: Vec<StageGraph> = Vec::new();
    let mut x = clips;
    for part in backbone.parts(0) {
        let begins = graphs.last().is_none_or(|graph| graph.stage < part.stage);
        if part.stage >= from && begins {
            let input = (part.stage > from).then(|| detached(x.clone()).require_grad());
            x = input.clone().unwrap_or(x);
            graphs.push(StageGraph { stage: part.stage, input, output: x.clone() });
        }
        x = part.forward(x, statistics);
        if let Some(graph) = graphs.last_mut() {
            graph.output = x.clone();
        }
    }
    (graphs, average(x))
}

/// Runs the backward pass through the parts from stage `from` on, last first, recomputing each part
/// from its input.
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
        // The input of the lowest trainable stage needs no gradient.
        let input = if index == 0 { input } else { input.require_grad() };
        // Dropped: the forward pass has already returned the statistics of these clips.
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

/// Returns the features `[N, F]` of clips, outside any graph, and the batch statistics. This is the
/// first of two forward passes over clips whose backward pass follows the second.
pub(crate) fn features_only(
    backbone: &Backbone,
    clips: Tensor<5>,
    exchange: Option<Arc<dyn Exchange>>,
) -> (Tensor<2>, BatchStatistics) {
    let statistics = BatchStatistics::across(exchange);
    let (features, statistics) = without_graph(backbone).forward_into(clips, statistics);
    (detached(features), statistics)
}

/// Returns a copy of the backbone that records no graph and shares the running statistics.
fn without_graph(backbone: &Backbone) -> Backbone {
    backbone.clone().no_grad()
}

fn detached<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(x.inner())
}

/// Returns the gradients of everything that `output` was computed from, given the loss's gradient with
/// respect to it.
fn backpropagate<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Gradients {
    with_gradient(output, Tensor::from_inner(gradient)).backward()
}
