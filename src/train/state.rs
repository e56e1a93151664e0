//! Everything except the weights that is needed to resume a run exactly.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::average::WeightAverage;
use super::loss_scale::LossScale;
use super::metrics::PassProgress;
use super::optimizer::{Moments, Optimizer};
use crate::checkpoint::container::{self, Content};
use crate::checkpoint::{self, CheckpointError, CheckpointInfo, FORMAT_VERSION};
use crate::config::Config;
use crate::model::state_dict::{StateDict, collect_net};
use crate::model::{ModelConfig, MultiViewNet};
use crate::report::EpochRecord;

/// Facts about the device's memory from which a run plans its micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryState {
    /// Free device memory at the start of the run, bytes, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Number of clips that fitted after the device had run out of memory with more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_clips: Option<usize>,
}

/// Contents of a checkpoint: the state of a run between two steps.
pub(super) struct Snapshot<'a> {
    pub net: &'a MultiViewNet,
    pub average: Option<&'a WeightAverage>,
    pub optimizer: &'a Optimizer,
    pub memory: MemoryState,
    pub loss_scale: Option<LossScale>,
    pub lanes: usize,
    pub history: &'a [EpochRecord],
    /// Progress of the training pass; `None` between two epochs.
    pub progress: Option<PassProgress>,
}

impl Snapshot<'_> {
    /// Returns the bytes of the weight file and of the state file; `path` is only used in errors. `best_score` is
    /// the highest score so far, and `data` the digests of the splits if the state stores them.
    pub(super) fn encode(
        &self,
        path: &Path,
        config: &Config,
        info: &CheckpointInfo,
        best_score: Option<f64>,
        data: Option<[u32; 2]>,
    ) -> Result<[Vec<u8>; 2], CheckpointError> {
        let shown = self.average.map_or(self.net, WeightAverage::net);
        let (weights, checksum) = checkpoint::encode(path, shown, info)?;
        let state = RunState::new(config, self, best_score, data, checksum);
        let trained = self.average.map(|_| (self.net, &info.model));
        Ok([weights, state.encode(path, self.optimizer, trained)?])
    }
}

fn one() -> usize {
    1
}

fn is_one(lanes: &usize) -> bool {
    *lanes == 1
}

/// The state of a run between two steps. Learning rates, freezing, early stopping, data order,
/// augmentation and dropout all follow from the configuration, the history and the position in the run,
/// so they are not stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Version of the file layout.
    pub format_version: u32,
    /// Version of polyview that wrote the state.
    pub polyview_version: String,
    /// Checksum of the weight file that belongs to this state.
    pub weights: String,
    /// Number of finished epochs.
    pub epoch: usize,
    /// Progress of the next epoch's training pass; absent between two epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<PassProgress>,
    /// Highest score so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_score: Option<f64>,
    /// What the run knows about its device's memory, which determines the micro-batch.
    #[serde(default)]
    pub memory: MemoryState,
    /// Number of lanes of each step.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub lanes: usize,
    /// Loss scale in half precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// Number of updates of the weights' moving average, if one is kept. The weight file then holds the
    /// average, and the state file holds the weights being trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<u64>,
    /// Digests of the training and the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<[u32; 2]>,
    /// Number of optimizer updates of each parameter, by path.
    pub updates: BTreeMap<String, u32>,
    /// Configuration of the run.
    pub config: Config,
    /// Records of the finished epochs.
    pub history: Vec<EpochRecord>,
}

impl RunState {
    /// Creates a state in the current layout; `weights` is the checksum of the weight file. `best_score` and
    /// `data` are stored as they are.
    fn new(
        config: &Config,
        snapshot: &Snapshot,
        best_score: Option<f64>,
        data: Option<[u32; 2]>,
        weights: String,
    ) -> Self {
        let Snapshot { net: _, average, optimizer, memory, loss_scale, lanes, history, progress } =
            snapshot;
        let updates = optimizer.moments.iter().map(|(name, moments)| (name.clone(), moments.steps));
        Self {
            format_version: FORMAT_VERSION,
            polyview_version: env!("CARGO_PKG_VERSION").to_owned(),
            weights,
            epoch: history.len(),
            progress: progress.clone(),
            best_score,
            memory: *memory,
            lanes: *lanes,
            loss_scale: *loss_scale,
            average: average.map(WeightAverage::updates),
            data,
            updates: updates.collect(),
            config: config.clone(),
            history: history.to_vec(),
        }
    }

    /// Returns the bytes of a state file; `path` is only used in errors. `trained` is the network being
    /// trained, if the weight file holds the average of its weights.
    ///
    /// The header is TOML: its numbers are read back bit for bit, NaN included, which JSON does not
    /// guarantee.
    fn encode(
        &self,
        path: &Path,
        optimizer: &Optimizer,
        trained: Option<(&MultiViewNet, &ModelConfig)>,
    ) -> Result<Vec<u8>, CheckpointError> {
        let fail = |reason: String| CheckpointError::Write {
            path: path.to_owned(),
            source: std::io::Error::other(reason),
        };
        let mut tensors = StateDict::new();
        for (name, moments) in &optimizer.moments {
            let mut add = |which: &str, tensor: &Tensor<1>| -> Result<(), CheckpointError> {
                let data = tensor.clone().try_into_data().map_err(|e| fail(e.to_string()))?;
                tensors.insert(format!("{name}.{which}"), data);
                Ok(())
            };
            add(FIRST, &moments.first)?;
            if let Some(second) = &moments.second {
                add(SECOND, second)?;
            }
        }
        if let Some((net, model)) = trained {
            let weights = collect_net(net, model).map_err(|error| fail(error.to_string()))?;
            tensors
                .extend(weights.into_iter().map(|(name, data)| (format!("{TRAINED}{name}"), data)));
        }
        let text = toml::to_string(self).map_err(|error| fail(error.to_string()))?;
        Ok(container::encode(path, &text, &tensors)?.0)
    }

    /// Returns the checksum of the weights that a state file belongs to, if the file can be read.
    pub(super) fn weights_checksum(path: &Path) -> Option<String> {
        #[derive(Deserialize)]
        struct Header {
            weights: String,
        }
        let header: Header = toml::from_str(&container::read(path).ok()?.text).ok()?;
        Some(header.weights)
    }

    /// Reads a state file; the optimizer's moments are tensors on `device`, without automatic
    /// differentiation.
    pub fn read(path: &Path, device: &Device) -> Result<(Self, Tensors), CheckpointError> {
        Self::of_content(path, container::read(path)?, device)
    }

    /// Like [`RunState::read`], from the bytes of a file; `path` is only used in errors.
    pub(super) fn decode(
        path: &Path,
        bytes: &[u8],
        device: &Device,
    ) -> Result<(Self, Tensors), CheckpointError> {
        Self::of_content(path, container::decode(path, bytes)?, device)
    }

    fn of_content(
        path: &Path,
        content: Content,
        device: &Device,
    ) -> Result<(Self, Tensors), CheckpointError> {
        let refuse = |reason: String| CheckpointError::Read { path: path.to_owned(), reason };
        let Content { text, mut tensors, .. } = content;
        let state: Self = toml::from_str(&text)
            .map_err(|error| refuse(format!("bad header: {}", error.message())))?;
        if state.format_version > FORMAT_VERSION {
            return Err(refuse(format!(
                "it has format {}, but polyview {} reads formats up to {FORMAT_VERSION}",
                state.format_version,
                env!("CARGO_PKG_VERSION")
            )));
        }
        let device = device.clone().without_autodiff();
        let mut take = |name: &str, which: &str| {
            let data = tensors.swap_remove(&format!("{name}.{which}"))?;
            let count = data.shape().iter().product::<usize>();
            (data.shape().len() == 1 && count > 0).then(|| Tensor::<1>::from_data(data, &device))
        };
        let mut moments = BTreeMap::new();
        for (name, &steps) in &state.updates {
            let first = take(name, FIRST)
                .ok_or_else(|| refuse(format!("`{name}` has no {FIRST} moment")))?;
            let second = take(name, SECOND);
            moments.insert(name.clone(), Moments { steps, first, second });
        }
        let trained = tensors
            .into_iter()
            .filter_map(|(name, data)| Some((name.strip_prefix(TRAINED)?.to_owned(), data)));
        let trained: StateDict = trained.collect();
        if state.average.is_some() == trained.is_empty() {
            return Err(refuse("it has no weights to resume training from".to_owned()));
        }
        Ok((state, Tensors { moments, trained }))
    }
}

/// The tensors of a state file.
#[derive(Debug)]
pub struct Tensors {
    /// Optimizer state of each parameter, by path.
    pub moments: BTreeMap<String, Moments>,
    /// Weights being trained, if the weight file holds their average; otherwise empty.
    pub trained: StateDict,
}

/// Name prefix of the weights being trained.
const TRAINED: &str = "trained/";
const FIRST: &str = "first";
const SECOND: &str = "second";
