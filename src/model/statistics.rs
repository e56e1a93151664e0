//! The batch statistics of a training pass, before they update the running statistics of batch
//! normalisation. A forward pass returns them, and its caller decides whether to apply them: not if
//! the pass was a recomputation to save memory, nor if the device could not finish it.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param, ParamId, RunningState};
use burn::tensor::{ExecutionError, Tensor, TensorData, Transaction};
use serde::{Deserialize, Serialize};

use super::resnet3d::Backbone;
use crate::norm::{self, Exchange, Running};

const MOMENTUM: f64 = 0.1;

/// One layer's statistics of one batch.
#[derive(Debug)]
pub(super) struct LayerStatistics {
    /// The layer, identified by the id of its scale γ.
    pub norm: ParamId,
    /// Running mean and variance, `[C]` each. Their clones share one state.
    pub running: [RunningState<Tensor<1>>; 2],
    /// The batch's mean and biased variance, `[C]` each.
    pub batch: [Tensor<1>; 2],
    /// Factor that turns the biased variance into the unbiased one.
    pub unbiased: f64,
}

/// The batch statistics of the layers that trained in some forward passes, per pass in the order in
/// which the layers ran. Dropping them leaves the running statistics unchanged.
#[derive(Debug, Default)]
#[must_use = "the running statistics are updated by `apply`"]
pub struct BatchStatistics {
    passes: Vec<Vec<LayerStatistics>>,
    /// Exchange with the other lanes, if lanes normalise a batch together.
    exchange: Option<Arc<dyn Exchange>>,
}

impl BatchStatistics {
    /// Creates empty statistics for a forward pass. With an `exchange`, its clips are normalised together
    /// with those of other lanes.
    pub(crate) fn across(exchange: Option<Arc<dyn Exchange>>) -> Self {
        Self { exchange, ..Self::default() }
    }

    /// Returns the exchange with other lanes.
    pub(super) fn exchange(&self) -> Option<&Arc<dyn Exchange>> {
        self.exchange.as_ref()
    }

    /// Adds a layer to the last pass.
    pub(super) fn push(&mut self, layer: LayerStatistics) {
        match self.passes.last_mut() {
            Some(pass) => pass.push(layer),
            None => self.passes.push(vec![layer]),
        }
    }

    /// Appends the statistics of later passes.
    pub(crate) fn append(&mut self, later: Self) {
        self.passes.extend(later.passes);
    }

    /// Reads the statistics back to the host. `backbone` is the one that computed them.
    pub(crate) fn read(self, backbone: &Backbone) -> Result<HostStatistics, ExecutionError> {
        let mut transaction = Transaction::default();
        for tensor in self.passes.iter().flatten().flat_map(|layer| &layer.batch) {
            transaction = transaction.register(tensor.clone());
        }
        let mut values = transaction
            .try_execute()?
            .into_iter()
            .map(|data| data.try_into_vec::<f32>().expect("statistics are f32"));
        let norms = backbone.norms();
        let mut layer = |layer: LayerStatistics| HostLayer {
            norm: norms
                .iter()
                .position(|norm| norm.weight.id == layer.norm)
                .expect("a layer of this backbone"),
            batch: [(); 2].map(|()| values.next().expect("each was registered")),
            unbiased: layer.unbiased,
        };
        let passes = self.passes.into_iter();
        let passes = passes.map(|pass| pass.into_iter().map(&mut layer).collect());
        Ok(HostStatistics(passes.collect()))
    }

    /// Adds statistics that a copy of `backbone` computed.
    pub(crate) fn add_host(&mut self, host: HostStatistics, backbone: &Backbone) {
        let norms = backbone.norms();
        let layer = |HostLayer { norm, batch, unbiased }: HostLayer| {
            let norm = norms[norm];
            let device = norm.weight.val().inner().device();
            let tensor =
                |values: Vec<f32>| Tensor::from_data(TensorData::from(&values[..]), &device);
            let (id, running) = (norm.weight.id, norm.running());
            LayerStatistics { norm: id, running, batch: batch.map(tensor), unbiased }
        };
        let passes = host.0.into_iter().map(|pass| pass.into_iter().map(layer).collect());
        self.passes.extend(passes);
    }

    /// Updates the running statistics, with PyTorch's momentum of 0.1.
    pub fn apply(self) {
        self.passes.into_iter().for_each(apply_pass);
    }
}

/// Batch statistics on the host, possibly computed by a copy of the network that they will update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostStatistics(Vec<Vec<HostLayer>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HostLayer {
    /// Index of the layer in [`Backbone::norms`].
    norm: usize,
    batch: [Vec<f32>; 2],
    unbiased: f64,
}

/// Updates the running statistics of all layers together, which takes few launches on a device.
fn apply_pass(layers: Vec<LayerStatistics>) {
    let states: Vec<_> = layers.iter().map(|layer| layer.running.clone()).collect();
    let layers = layers.into_iter().map(|LayerStatistics { running, batch, unbiased, .. }| {
        Running { running: running.map(|state| state.value_sync()), batch, unbiased }
    });
    for (states, next) in states.into_iter().zip(norm::blend(layers.collect(), MOMENTUM)) {
        for (state, next) in states.into_iter().zip(next) {
            // The clone in the module shares the value.
            let _ = state.map(&mut Replace(next));
        }
    }
}

/// Replaces the value of a running state. Burn's `update` would keep a value per thread and average
/// over the threads, with a division on the device for each.
struct Replace(Tensor<1>);

impl ModuleMapper for Replace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, old, mapper) = param.consume();
        Param::from_mapped_value(id, self.0.clone().reshape(old.dims()), mapper)
    }
}
