//! The two files of a checkpoint, replaced together.
//!
//! Two renames are not atomic, so a run may die between them. The order of writing makes every point
//! recoverable: the new state is written to `NAME.state.next`, then the new weights replace the old
//! ones, then the state is renamed. A state holds the checksum of its weights; a reader that finds new
//! weights with an old state reads `NAME.state.next`, which is complete by then.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::optimizer::Moments;
use super::state::{RunState, Tensors};
use crate::checkpoint::{
    self, CheckpointError, CheckpointInfo, patiently, rebuild, write_atomically,
};
use crate::model::MultiViewNet;
use crate::model::state_dict::StateDict;

/// A checkpoint that has been loaded.
#[derive(Debug)]
pub struct Saved {
    /// Network of the weight file, on the requested device.
    pub net: MultiViewNet,
    /// Description stored in the weight file.
    pub info: CheckpointInfo,
    /// State of the run.
    pub state: RunState,
    /// Optimizer state of each parameter, by path.
    pub moments: BTreeMap<String, Moments>,
    /// Network being trained, if `net` has the average of its weights.
    pub trained: Option<MultiViewNet>,
}

impl Saved {
    /// Builds the networks of a checkpoint from the contents of both files; their paths are only used in
    /// errors.
    pub(super) fn new(
        [weights, state_file]: [&Path; 2],
        (info, tensors): (CheckpointInfo, StateDict),
        (state, Tensors { moments, trained }): (RunState, Tensors),
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        let net = rebuild(weights, &info, tensors, device)?;
        let trained = state.average.map(|_| rebuild(state_file, &info, trained, device));
        Ok(Self { net, info, trained: trained.transpose()?, state, moments })
    }
}

/// Returns the path of the state file that belongs to these weights.
pub(super) fn state_of(weights: &Path) -> PathBuf {
    weights.with_extension("state")
}

fn next_of(weights: &Path) -> PathBuf {
    weights.with_extension("state.next")
}

/// Replaces the checkpoint at the path `weights`: the weight file by `bytes`, its state file by `state`.
pub(super) fn save_pair(weights: &Path, bytes: &[u8], state: &[u8]) -> Result<(), CheckpointError> {
    finish_last(weights)?;
    write_atomically(&next_of(weights), state)?;
    write_atomically(weights, bytes)?;
    rename_state(weights)
}

/// Performs the second rename: moves the new state to its final name.
fn rename_state(weights: &Path) -> Result<(), CheckpointError> {
    let rename = || -> io::Result<()> {
        patiently(|| fs::rename(next_of(weights), state_of(weights)))?;
        // The rename itself must survive a power cut. Not every system can sync a folder.
        if let Some(folder) = weights.parent() {
            let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    };
    rename().map_err(|source| CheckpointError::Write { path: state_of(weights), source })
}

/// Completes a checkpoint whose run died between the two renames: its state is still in
/// `NAME.state.next`, which is about to be overwritten.
fn finish_last(weights: &Path) -> Result<(), CheckpointError> {
    let next = next_of(weights);
    if !next.exists() {
        return Ok(());
    }
    // An unreadable file is of no use and may be overwritten.
    let expected = RunState::weights_checksum(&next);
    match checkpoint::read(weights) {
        Ok((.., checksum)) if expected.is_some_and(|expected| expected == checksum) => {
            rename_state(weights)
        }
        _ => Ok(()),
    }
}

/// Loads a checkpoint, given the path of either of its files.
pub fn load_pair(path: &Path, device: &Device) -> Result<Saved, CheckpointError> {
    let weights = path.with_extension("safetensors");
    let (info, tensors, checksum) = checkpoint::read(&weights)?;
    let (state, state_tensors) = match RunState::read(&state_of(&weights), device) {
        Ok((state, tensors)) if state.weights == checksum => (state, tensors),
        // Either the run died between the two renames, or the files do not belong together.
        other => match RunState::read(&next_of(&weights), device) {
            Ok((state, tensors)) if state.weights == checksum => (state, tensors),
            _ => {
                let (state, _) = other?;
                return Err(CheckpointError::Read {
                    path: state_of(&weights),
                    reason: format!(
                        "it belongs to other weights (of epoch {}) than those in {}",
                        state.epoch,
                        weights.display()
                    ),
                });
            }
        },
    };
    let paths = [&weights, &*state_of(&weights)];
    Saved::new(paths, (info, tensors), (state, state_tensors), device)
}

/// Removes all but the newest `keep` of a folder's `epoch-NNNN` checkpoints up to `epoch`, the last one
/// written. Checkpoints of later epochs were left by a run from before this one resumed at an earlier
/// epoch; they are kept. A failure to remove a file is only a warning: saving disk space is not worth
/// ending the run.
pub(super) fn drop_older(folder: &Path, epoch: usize, keep: usize) {
    let mut kept = match numbered(folder) {
        Ok(kept) => kept.into_iter().filter(|(number, _)| *number <= epoch).collect::<Vec<_>>(),
        Err(error) => {
            let folder = folder.display();
            log::warn!("{folder}: cannot be listed, so old checkpoints are kept: {error}");
            return;
        }
    };
    kept.sort_unstable();
    let excess = kept.len().saturating_sub(keep);
    for (_, weights) in kept.into_iter().take(excess) {
        // The state first: weights without a state can still be evaluated.
        for path in [state_of(&weights), weights] {
            match patiently(|| fs::remove_file(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let path = path.display();
                    log::warn!("{path}: cannot remove this old file: {error}");
                    // Keep the weights if their state is kept: the next epoch finds both by the weights.
                    break;
                }
                _ => {}
            }
        }
    }
}

/// Returns the `epoch-NNNN` weight files of a folder with their epoch numbers.
fn numbered(folder: &Path) -> io::Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("epoch-").and_then(|n| n.strip_suffix(".safetensors"));
        if let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) {
            found.push((number, path));
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::{BackboneKind, ModelConfig};
    use crate::schema::Schema;
    use crate::train::optimizer::{Optimizer, Rule};
    use crate::train::state::{MemoryState, Snapshot};

    #[test]
    fn a_state_that_was_not_renamed_yet_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (device, config) = (Device::flex(), Config::default());
        let schema = Schema::mvfoul().unwrap();
        let model = ModelConfig::new(BackboneKind::R3dTiny, &schema);
        let pair = |seed: u64| {
            let info = CheckpointInfo::new(&schema, model.clone());
            let snapshot = Snapshot {
                net: &model.init(seed, &device),
                average: None,
                optimizer: &Optimizer::new(Rule::new(&config), 0.0),
                memory: MemoryState::default(),
                loss_scale: None,
                lanes: 1,
                history: &[],
                progress: None,
            };
            snapshot.encode(&path, &config, &info, None, None).unwrap()
        };
        let [first, second, third] = [pair(1), pair(2), pair(3)];
        save_pair(&path, &first[0], &first[1]).unwrap();
        // Killed between the two renames.
        fs::write(next_of(&path), &second[1]).unwrap();
        fs::write(&path, &second[0]).unwrap();
        load_pair(&path, &device).unwrap();
        // The next save is killed before it replaces the weights.
        finish_last(&path).unwrap();
        fs::write(next_of(&path), &third[1]).unwrap();
        load_pair(&path, &device).unwrap();
        assert_eq!(fs::read(state_of(&path)).unwrap(), second[1]);
        // The state of weights that were never written is not renamed.
        finish_last(&path).unwrap();
        assert_eq!(fs::read(state_of(&path)).unwrap(), second[1]);
        save_pair(&path, &third[0], &third[1]).unwrap();
        assert_eq!(fs::read(state_of(&path)).unwrap(), third[1]);
        assert!(!next_of(&path).exists());
    }
}
