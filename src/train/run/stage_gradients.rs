//! The gradients from which a freezing strategy chooses the stages of the next epoch.

use super::Run;
use crate::model::{STAGES, StageSet};
use crate::train::error::TrainError;
use crate::train::memory::memory_needs;
use crate::train::stage_gradients::stage_gradients;

impl Run<'_> {
    /// Returns the gradients of all stages on the epoch's first batch, as computed by the lead.
    pub(super) fn stage_gradients(
        &self,
        epoch: usize,
    ) -> Result<Option<[f64; STAGES.len()]>, TrainError> {
        match &self.cluster {
            None => self.own_stage_gradients(epoch),
            Some(cluster) => {
                let own = if cluster.is_lead() { self.own_stage_gradients(epoch)? } else { None };
                Ok(cluster.all_gather(&own)?.swap_remove(0))
            }
        }
    }

    fn own_stage_gradients(&self, epoch: usize) -> Result<Option<[f64; STAGES.len()]>, TrainError> {
        let batches = self.data.train_batches(epoch);
        let Some(first) = batches.first() else {
            return Ok(None);
        };
        let Some(batch) = self.data.train_batch(epoch, first)? else {
            return Ok(None);
        };
        let (net, objective) = (self.trainer.net(), &self.trainer.objective);
        let memory = self.budget.step(&memory_needs(self.config, net, StageSet::ALL)?);
        let loss_scale = self.trainer.loss_scale;
        let device = self.trainer.device();
        stage_gradients(net, &batch, objective, memory, loss_scale, device)
    }
}
