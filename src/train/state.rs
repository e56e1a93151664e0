//! Everything except the weights that a run needs to resume exactly.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::loss_scale::LossScale;
use super::metrics::PassProgress;
use super::optimizer::{Moments, Optimizer};
use crate::checkpoint::container::{self, Content};
use crate::checkpoint::{CheckpointError, FORMAT_VERSION};
use crate::config::Config;
use crate::model::state_dict::{StateDict, collect_net};
use crate::model::{ModelConfig, MultiViewNet};
use crate::report::EpochRecord;

/// The memory that a run plans with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryState {
    /// Bytes free on the device when the run began, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Clips that it held after it had been out of memory with more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_clips: Option<usize>,
}

fn one() -> usize {
    1
}

fn is_one(lanes: &usize) -> bool {
    *lanes == 1
}

/// A run between two steps. Rates, freezing, early stopping, the order of the data, augmentation
/// and dropout all follow from the configuration, the history and the position, so nothing of
/// them is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Layout version.
    pub format_version: u32,
    /// polyview's version.
    pub polyview_version: String,
    /// Checksum of the weights that belong to this state.
    pub weights: String,
    /// Finished epochs.
    pub epoch: usize,
    /// The training pass of the next epoch so far; absent between two epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<PassProgress>,
    /// Highest score so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_score: Option<f64>,
    /// What the run has learned of its device's memory: the micro-batch follows from it.
    #[serde(default)]
    pub memory: MemoryState,
    /// Shares of a batch that are computed separately.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub lanes: usize,
    /// What the loss is multiplied by in half precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// Updates of the weights' average, which the weight file then has; the weights that are trained are
    /// in this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<u64>,
    /// Digests of the training and the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<[u32; 2]>,
    /// Updates per parameter path.
    pub updates: BTreeMap<String, u32>,
    /// The configuration.
    pub config: Config,
    /// The finished epochs' records.
    pub history: Vec<EpochRecord>,
}

impl RunState {
    /// A state of this version's layout; `weights` is the weight file's checksum.
    pub fn new(
        config: &Config,
        history: &[EpochRecord],
        progress: Option<PassProgress>,
        weights: String,
    ) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            polyview_version: env!("CARGO_PKG_VERSION").to_owned(),
            weights,
            epoch: history.len(),
            progress,
            best_score: None,
            memory: MemoryState::default(),
            lanes: 1,
            loss_scale: None,
            average: None,
            data: None,
            updates: BTreeMap::new(),
            config: config.clone(),
            history: history.to_vec(),
        }
    }

    /// The bytes of a state file; `path` is named in errors. `trained` is the network that is trained,
    /// where the weight file has the average of its weights.
    ///
    /// The text is TOML: its numbers come back bit for bit, NaN included, which JSON cannot
    /// promise.
    pub fn encode(
        mut self,
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
            self.updates.insert(name.clone(), moments.steps);
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
        let text = toml::to_string(&self).map_err(|error| fail(error.to_string()))?;
        Ok(container::encode(path, &text, &tensors)?.0)
    }

    /// The checksum of the weights that a state file belongs to, if it can be read.
    pub(super) fn weights_named_by(path: &Path) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            weights: String,
        }
        let named: Named = toml::from_str(&container::read(path).ok()?.text).ok()?;
        Some(named.weights)
    }

    /// Reads a state file; the optimizer's memory comes as tensors on `device`, without automatic
    /// differentiation.
    pub fn read(path: &Path, device: &Device) -> Result<(Self, Tensors), CheckpointError> {
        Self::of_content(path, container::read(path)?, device)
    }

    /// The same of a file's bytes; `path` is for errors.
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
                "it has format {}, this polyview {} reads up to {FORMAT_VERSION}",
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
            return Err(refuse("it has no weights to go on with".to_owned()));
        }
        Ok((state, Tensors { moments, trained }))
    }
}

/// The tensors of a state file.
#[derive(Debug)]
pub struct Tensors {
    /// The optimizer's memory.
    pub moments: BTreeMap<String, Moments>,
    /// The weights that are trained, where the weight file has their average; else empty.
    pub trained: StateDict,
}

/// What names of weights that are trained begin with.
const TRAINED: &str = "trained/";
const FIRST: &str = "first";
const SECOND: &str = "second";
