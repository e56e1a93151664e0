//! The batch statistics of a training pass, on their way into the running statistics of batch
//! normalisation. A forward pass returns them; whoever asked for it decides whether they count: not
//! if it was recomputed to save memory, nor if the device could not finish it.

use burn::module::RunningState;
use burn::tensor::Tensor;

use crate::norm::{self, Blend};

const MOMENTUM: f64 = 0.1;

/// One layer's statistics of one batch.
#[derive(Debug)]
pub(super) struct LayerStatistics {
    /// Running mean and variance, `[C]` each. Their clones share one state.
    pub running: [RunningState<Tensor<1>>; 2],
    /// The batch's mean and biased variance, `[C]` each.
    pub batch: [Tensor<1>; 2],
    /// Factor that makes that variance unbiased.
    pub unbiased: f64,
}

impl LayerStatistics {
    fn apply(self) {
        let blend = Blend { momentum: MOMENTUM, unbiased: self.unbiased };
        let old = self.running.each_ref().map(RunningState::value_sync);
        let next = norm::blend(old, self.batch, blend);
        for (running, next) in self.running.iter().zip(next) {
            running.update(next);
            // Burn keeps the newest value per thread apart until it is asked for; a checkpoint
            // written now must already hold it.
            running.value_sync();
        }
    }
}

/// The batch statistics of the layers that trained in a forward pass, in the order in which they
/// ran. Dropping them leaves the running statistics as they were.
#[derive(Debug, Default)]
#[must_use = "the running statistics are updated by `apply`"]
pub struct BatchStatistics(Vec<LayerStatistics>);

impl BatchStatistics {
    pub(super) fn push(&mut self, layer: LayerStatistics) {
        self.0.push(layer);
    }

    /// Adds those of a later pass.
    pub(crate) fn append(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Updates the running statistics, with PyTorch's momentum of 0.1.
    pub fn apply(self) {
        self.0.into_iter().for_each(LayerStatistics::apply);
    }
}
