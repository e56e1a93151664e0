//! Sends the lead's start state to the other ranks, which need no access to its files.

use std::path::Path;

use burn::tensor::Device;

use super::average::WeightAverage;
use super::error::TrainError;
use super::optimizer::{Optimizer, Rule};
use super::start::{Start, networks};
use super::state::RunState;
use crate::checkpoint::{self, CheckpointInfo};
use crate::cluster::Cluster;
use crate::config::Config;

/// Stands in for a path in error messages about the received bytes.
const NAME: &str = "the start state sent by rank 0";

/// Returns the lead's start state on all ranks. `start` is called on the lead only.
pub(super) fn shared_start(
    cluster: &Cluster,
    config: &Config,
    info: &CheckpointInfo,
    device: &Device,
    start: impl FnOnce() -> Result<Start, TrainError>,
) -> Result<Start, TrainError> {
    let path = Path::new(NAME);
    if cluster.leads() {
        let start = start()?;
        let shown = start.average.as_ref().map_or(&start.net, WeightAverage::net);
        let (weights, checksum) = checkpoint::encode(path, shown, info)?;
        let progress = start.progress.clone();
        let mut state = RunState::new(config, &start.history, progress, checksum);
        state.best_score = start.best_score;
        state.memory = start.memory.unwrap_or_default();
        state.loss_scale = start.loss_scale;
        state.lanes = start.lanes.unwrap_or(1);
        state.average = start.average.as_ref().map(WeightAverage::updates);
        let trained = start.average.as_ref().map(|_| (&start.net, &info.model));
        let state = state.encode(path, &start.optimizer, trained)?;
        cluster.all(&Some([start.lanes.is_some(), start.memory.is_some()]))?;
        cluster.from_lead(weights);
        cluster.from_lead(state);
        return Ok(start);
    }
    let resumed = cluster.all(&None::<[bool; 2]>)?.into_iter().flatten().next();
    let [has_lanes, has_memory] = resumed.expect("the lead has sent these flags");
    let (weights, state) = (cluster.from_lead(Vec::new()), cluster.from_lead(Vec::new()));
    let (info, tensors, _) = checkpoint::decode(path, &weights)?;
    let net = checkpoint::rebuild(path, &info, tensors, device)?;
    let (state, state_tensors) = RunState::decode(path, &state, device)?;
    let trained = state.average.map(|updates| {
        let net = checkpoint::rebuild(path, &info, state_tensors.trained, device)?;
        Ok::<_, TrainError>((net, updates))
    });
    let (net, average) = networks(config, &info.model, net, trained.transpose()?, device);
    let mut optimizer = Optimizer::new(Rule::new(config), config.optimizer.gradient_clip_norm);
    optimizer.moments = state_tensors.moments;
    Ok(Start {
        net,
        average,
        optimizer,
        history: state.history,
        progress: state.progress,
        memory: has_memory.then_some(state.memory),
        loss_scale: state.loss_scale,
        lanes: has_lanes.then_some(state.lanes),
        // Only the lead compares the data.
        data: None,
        trained_digests: None,
        best_score: state.best_score,
    })
}
