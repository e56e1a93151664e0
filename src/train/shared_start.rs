//! Sends the lead's start state to the other ranks, which need no access to its files.

use std::path::Path;

use burn::tensor::Device;

use super::error::TrainError;
use super::pair::Saved;
use super::start::Start;
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
    if cluster.is_lead() {
        let start = start()?;
        let snapshot = start.snapshot();
        let [weights, state] = snapshot.encode(path, config, info, start.best_score, None)?;
        cluster.all_gather(&Some([start.lanes.is_some(), start.memory.is_some()]))?;
        cluster.broadcast(weights);
        cluster.broadcast(state);
        return Ok(start);
    }
    let resumed = cluster.all_gather(&None::<[bool; 2]>)?.into_iter().flatten().next();
    let [has_lanes, has_memory] = resumed.expect("the lead has sent these flags");
    let (weights, state) = (cluster.broadcast(Vec::new()), cluster.broadcast(Vec::new()));
    let (info, tensors, _) = checkpoint::decode(path, &weights)?;
    let model = info.model.clone();
    let state = RunState::decode(path, &state, device)?;
    let saved = Saved::new([path; 2], (info, tensors), state, device)?;
    let start = Start::from_saved(config, &model, saved, device);
    Ok(Start {
        memory: start.memory.filter(|_| has_memory),
        lanes: start.lanes.filter(|_| has_lanes),
        // Only the lead compares the data.
        data: None,
        trained_digests: None,
        ..start
    })
}
