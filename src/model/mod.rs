//! The network: a shared 3D ResNet turns every view into a feature, the views of an action are
//! merged, and one head per task classifies the action.

mod backward;
mod dropout;
mod given_gradient;
mod layers;
mod memory;
mod predict;
pub mod pretrained;
mod resnet3d;
mod stages;
pub mod state_dict;
mod statistics;
mod view_pool;

use burn::module::Module;
use burn::nn::{Linear, Relu};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub(crate) use backward::{BackbonePass, Keep, features_only};
pub use dropout::{DropoutLayer, DropoutMasks, dropout};
pub(crate) use given_gradient::with_gradient;
pub use layers::{BatchNorm3d, Conv3d, Embedding, Init};
#[doc(hidden)]
pub use memory::MemoryEstimate;
pub(crate) use predict::even_chunks;
pub use predict::{plain_clips, plain_clips_of};
pub use resnet3d::{Backbone, BackboneKind, PartShapes, STAGES};
pub(crate) use resnet3d::{Part, Unit};
pub use stages::{StageSet, stage_of};
pub use statistics::BatchStatistics;
pub(crate) use statistics::HostStatistics;
pub use view_pool::{ViewLayout, ViewPool};

use crate::schema::{Property, Schema};

/// Default probability of dropout on each view's feature; `--dropout-rate` overrides this and
/// [`DROPOUT_HEAD`].
pub const DROPOUT_FEATURE: f64 = 0.4;
/// Default probability of dropout inside the heads.
pub const DROPOUT_HEAD: f64 = 0.6;

/// Everything that fixes the network's shape, stored with each checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The 3D ResNet.
    pub backbone: BackboneKind,
    /// Whether the views are merged by attention rather than by their masked mean.
    pub attention: bool,
    /// Task names with their class counts, in the order of the heads.
    pub tasks: Vec<(String, usize)>,
    /// Probability of dropout on each view's feature.
    pub dropout_feature: f64,
    /// Probability of dropout inside the heads.
    pub dropout_head: f64,
    /// Annotated properties that are inputs, as learned embeddings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<AnnotationInput>,
    /// Annotated properties that extra heads predict: names with their class counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auxiliary: Vec<(String, usize)>,
}

/// An annotated property as an input of the heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationInput {
    /// The property's name in the schema.
    pub name: String,
    /// Number of indices, including 0, which stands for "unknown".
    pub size: usize,
    /// Width of the property's embedding.
    pub width: usize,
}

impl ModelConfig {
    /// Creates the configuration of the default network for a schema's tasks.
    pub fn new(backbone: BackboneKind, schema: &Schema) -> Self {
        Self {
            backbone,
            attention: true,
            tasks: schema.tasks.iter().map(|t| (t.name.clone(), t.classes.len())).collect(),
            dropout_feature: DROPOUT_FEATURE,
            dropout_head: DROPOUT_HEAD,
            inputs: Vec::new(),
            auxiliary: Vec::new(),
        }
    }

    /// Adds the schema's annotated properties as inputs of the heads.
    #[must_use]
    pub fn with_inputs(mut self, schema: &Schema) -> Self {
        let input = |p: &Property| AnnotationInput {
            name: p.name.clone(),
            size: p.size(),
            width: p.embedding,
        };
        self.inputs = schema.properties.iter().filter(|p| p.input).map(input).collect();
        self
    }

    /// Adds a head for each of the schema's annotated properties that may have one.
    #[must_use]
    pub fn with_auxiliary(mut self, schema: &Schema) -> Self {
        let head = |p: &Property| (p.name.clone(), p.values.len());
        self.auxiliary = schema.properties.iter().filter(|p| p.auxiliary).map(head).collect();
        self
    }

    /// Builds the network on `device` with random initial weights drawn from `seed` (the same on
    /// every device).
    pub fn init(&self, seed: u64, device: &Device) -> MultiViewNet {
        let mut init = Init::new(seed, device);
        let features = self.backbone.features();
        let annotated: usize = self.inputs.iter().map(|input| input.width).sum();
        MultiViewNet {
            backbone: Backbone::new(&mut init, self.backbone),
            view_pool: if self.attention {
                ViewPool::attention(&mut init, features)
            } else {
                ViewPool::mean()
            },
            inputs: self
                .inputs
                .iter()
                .map(|input| init.embedding(input.size, input.width))
                .collect(),
            heads: self
                .tasks
                .iter()
                .map(|(_, classes)| Head::new(&mut init, features + annotated, *classes))
                .collect(),
            auxiliary: self
                .auxiliary
                .iter()
                .map(|(_, classes)| Head::new(&mut init, features, *classes))
                .collect(),
            dropout_feature: self.dropout_feature,
            dropout_head: self.dropout_head,
        }
    }
}

/// A task's classifier: Linear(F→256), ReLU, Dropout, Linear(256→classes).
#[derive(Module, Debug)]
pub struct Head {
    layers: (Linear, Relu, Linear),
}

const HEAD_WIDTH: usize = 256;

impl Head {
    fn new(init: &mut Init, features: usize, classes: usize) -> Self {
        Self {
            layers: (
                init.linear(features, HEAD_WIDTH),
                Relu::new(),
                init.linear(HEAD_WIDTH, classes),
            ),
        }
    }

    /// Returns the linear layers in order; a ReLU lies between them.
    pub(crate) fn linears(&self) -> [&Linear; 2] {
        [&self.layers.0, &self.layers.2]
    }

    fn forward(
        &self,
        x: Tensor<2>,
        rate: f64,
        layer: DropoutLayer,
        masks: Option<&DropoutMasks>,
    ) -> Tensor<2> {
        let hidden = relu(self.layers.0.forward(x));
        let rows = vec![1; hidden.dims()[0]];
        self.layers.2.forward(dropout(hidden, rate, layer, &rows, masks))
    }
}

/// The whole network. See [`ModelConfig::init`].
#[derive(Module, Debug)]
pub struct MultiViewNet {
    /// The shared 3D ResNet.
    pub backbone: Backbone,
    /// Merges the views of an action.
    pub view_pool: ViewPool,
    /// Embeddings of the annotated properties that are inputs, in the order of [`ModelConfig::inputs`].
    pub inputs: Vec<Embedding>,
    /// Heads of the tasks, in the order of [`ModelConfig::tasks`].
    pub heads: Vec<Head>,
    /// Heads of the annotated properties that are predicted, in the order of [`ModelConfig::auxiliary`].
    pub auxiliary: Vec<Head>,
    dropout_feature: f64,
    dropout_head: f64,
}

/// The network's output for a batch of B actions.
#[derive(Debug)]
pub struct Prediction {
    /// Logits `[B, classes]` of each task.
    pub logits: Vec<Tensor<2>>,
    /// Logits `[B, values]` of each auxiliary head; value k of the property is class k.
    pub auxiliary: Vec<Tensor<2>>,
    /// Weight of each view in the aggregation, `[B, V]`.
    pub view_weights: Tensor<2>,
}

impl MultiViewNet {
    /// Classifies actions from their clips: normalised `[N, 3, T, H, W]`, real views only, laid out
    /// as `views` describes. `masks` is the source of dropout masks for these actions; with `None` the
    /// network evaluates. Annotation inputs, if the network has any, are all treated as unknown.
    pub fn forward(
        &self,
        clips: Tensor<5>,
        views: &ViewLayout,
        masks: Option<&DropoutMasks>,
    ) -> Prediction {
        let unknown = vec![vec![0; views.counts().len()]; self.inputs.len()];
        self.forward_annotated(clips, views, &unknown, masks)
    }

    /// Like [`MultiViewNet::forward`], with annotated properties: `annotated[input][action]` is the
    /// property's index, 0 for unknown, in the order of [`ModelConfig::inputs`].
    pub fn forward_annotated(
        &self,
        clips: Tensor<5>,
        views: &ViewLayout,
        annotated: &[Vec<usize>],
        masks: Option<&DropoutMasks>,
    ) -> Prediction {
        self.classify(self.backbone.forward(clips), views, annotated, masks)
    }

    /// Runs view pooling and the heads on the backbone's `features` of the clips, `[N, F]`.
    pub fn classify(
        &self,
        features: Tensor<2>,
        views: &ViewLayout,
        annotated: &[Vec<usize>],
        masks: Option<&DropoutMasks>,
    ) -> Prediction {
        let counts = views.counts();
        let features = dropout(features, self.dropout_feature, DropoutLayer(0), counts, masks);
        let (features, mask) = views.spread(features);
        let (merged, view_weights) = self.view_pool.forward(features, mask);
        let mut parts = vec![merged.clone()];
        parts.extend(self.inputs.iter().zip(annotated).map(|(input, index)| input.forward(index)));
        let inputs = if parts.len() > 1 { Tensor::cat(parts, 1) } else { merged.clone() };
        let run = |heads: &[Head], x: &Tensor<2>, first: usize| -> Vec<Tensor<2>> {
            let head = |(head, layer): (&Head, usize)| {
                head.forward(x.clone(), self.dropout_head, DropoutLayer(layer as u64), masks)
            };
            heads.iter().zip(first..).map(head).collect()
        };
        let logits = run(&self.heads, &inputs, 1);
        let auxiliary = run(&self.auxiliary, &merged, 1 + self.heads.len());
        Prediction { logits, auxiliary, view_weights }
    }

    /// Returns the factors that dropout multiplies by: first those of the clips' `features`,
    /// `[N, F]`, then those of the hidden layer of each head, `[B, hidden]`, auxiliary heads last.
    pub(crate) fn dropout_factors(
        &self,
        features: usize,
        views: &ViewLayout,
        masks: &DropoutMasks,
    ) -> Vec<Tensor<2>> {
        let device = Device::flex();
        let ones = |rows, width| Tensor::ones([rows, width], &device);
        let counts = views.counts();
        let features = ones(views.clips(), features);
        let factors = |ones, rate, layer: usize, rows: &[usize]| {
            dropout(ones, rate, DropoutLayer(layer as u64), rows, Some(masks))
        };
        let mut all = vec![factors(features, self.dropout_feature, 0, counts)];
        let rows = vec![1; counts.len()];
        let hidden = || ones(rows.len(), HEAD_WIDTH);
        let heads = 1..=self.heads.len() + self.auxiliary.len();
        all.extend(heads.map(|layer| factors(hidden(), self.dropout_head, layer, &rows)));
        all
    }

    /// Freezes the backbone's stages that are not in `trainable`, and unfreezes the others.
    #[must_use]
    pub fn with_trainable(self, trainable: StageSet) -> Self {
        Self { backbone: self.backbone.with_trainable(trainable), ..self }
    }

    /// Selects whether the backbone's activations are stored in half precision or in f32.
    #[must_use]
    pub fn with_half(self, half: bool) -> Self {
        Self { backbone: self.backbone.with_half(half), ..self }
    }
}

/// Returns the number of trainable values in a module. (Burn's own count includes running
/// statistics.)
pub fn parameter_count<M: Module>(module: &M) -> usize {
    use burn::module::{ModuleVisitor, Param};
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.0 += param.lazy_shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    module.visit(&mut count);
    count.0
}
