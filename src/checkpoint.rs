//! Checkpoints on disk: weights with what is needed to rebuild the network, and the run's small
//! files. A file is replaced whole, so a reader never sees half of one.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use burn::tensor::{DType, Device, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::model::state_dict::{self, StateDict, StateDictError};
use crate::model::{ModelConfig, MultiViewNet};

/// Weights of the best epoch.
pub const BEST: &str = "best.safetensors";
/// Weights after the last finished epoch, or the last step before an interruption.
pub const LAST: &str = "last.safetensors";
/// Every epoch's figures.
pub const HISTORY: &str = "history.json";
/// The resolved configuration.
pub const CONFIG: &str = "config.toml";

/// Version of the checkpoint's layout; a higher one is refused.
const FORMAT_VERSION: u32 = 1;
/// Key in the safetensors metadata under which [`CheckpointInfo`] stands as JSON.
const INFO_KEY: &str = "polyview";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused to write.
    #[error("{}: cannot be written: {source}; choose another --save-dir or make room", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file could not be read, or is no checkpoint of ours.
    #[error("{}: not a polyview checkpoint: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Weights and network do not fit together.
    #[error("{}: {source}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: StateDictError,
    },
}

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Layout version.
    pub format_version: u32,
    /// polyview's version.
    pub polyview_version: String,
    /// The schema's name.
    pub schema: String,
    /// Class names per task.
    pub classes: Vec<Vec<String>>,
    /// The network's shape.
    pub model: ModelConfig,
    /// Finished epochs.
    pub epoch: usize,
    /// Validation score of that epoch, when there was one.
    pub score: Option<f64>,
}

impl CheckpointInfo {
    /// Facts of a checkpoint written by this version.
    pub fn new(schema: &crate::schema::Schema, model: ModelConfig) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            polyview_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: schema.name.clone(),
            classes: schema
                .tasks
                .iter()
                .map(|task| task.classes.iter().map(|class| class.name.clone()).collect())
                .collect(),
            model,
            epoch: 0,
            score: None,
        }
    }
}

/// Writes a file in one piece: to a temporary name, synced, then renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || -> std::io::Result<()> {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

/// Writes what a serialiser made of one of the run's small files.
pub fn write_text(
    path: &Path,
    text: Result<String, impl std::error::Error>,
) -> Result<(), CheckpointError> {
    let text = text.map_err(|error| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    write_atomically(path, text.as_bytes())
}

/// Makes the folder and proves that it can be written, before hours of training depend on it.
pub fn prepare_folder(folder: &Path) -> Result<(), CheckpointError> {
    let fail = |source| CheckpointError::Write { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(fail)?;
    let probe = folder.join(".polyview-write-test");
    fs::write(&probe, b"").map_err(fail)?;
    fs::remove_file(&probe).map_err(fail)
}

/// Writes a network's weights with `info`.
pub fn save(path: &Path, net: &MultiViewNet, info: &CheckpointInfo) -> Result<(), CheckpointError> {
    write_atomically(path, &encode(path, net, info)?)
}

/// The bytes of a checkpoint, for writing it to more than one place; `path` is named in errors.
pub fn encode(
    path: &Path,
    net: &MultiViewNet,
    info: &CheckpointInfo,
) -> Result<Vec<u8>, CheckpointError> {
    let write = |reason: String| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(reason),
    };
    let values = state_dict::collect_net(net, &info.model)
        .map_err(|source| CheckpointError::Unfit { path: path.to_owned(), source })?;
    let views: Vec<(&str, TensorView<'_>)> = values
        .iter()
        .map(|(name, data)| {
            let shape = data.shape().to_vec();
            let view = TensorView::new(Dtype::F32, shape, data.as_bytes());
            view.map(|view| (name.as_str(), view)).map_err(|error| write(error.to_string()))
        })
        .collect::<Result<_, _>>()?;
    let json = serde_json::to_string(info).map_err(|error| write(error.to_string()))?;
    // One entry only: the map has no order, and the same network must be the same bytes.
    let metadata = HashMap::from([(INFO_KEY.to_owned(), json)]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| write(error.to_string()))
}

/// Reads a checkpoint and rebuilds its network on `device`.
pub fn load(
    path: &Path,
    device: &Device,
) -> Result<(MultiViewNet, CheckpointInfo), CheckpointError> {
    let refuse = |reason: String| CheckpointError::Read { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| refuse(error.to_string()))?;
    let info = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(INFO_KEY))
        .ok_or_else(|| refuse("it carries no polyview header".to_owned()))?;
    let info: CheckpointInfo =
        serde_json::from_str(info).map_err(|error| refuse(format!("bad header: {error}")))?;
    if info.format_version > FORMAT_VERSION {
        return Err(refuse(format!(
            "it has format {}, this polyview {} reads up to {FORMAT_VERSION}",
            info.format_version,
            env!("CARGO_PKG_VERSION")
        )));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
    let mut values = StateDict::new();
    for (name, view) in tensors.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(refuse(format!("`{name}` is {:?}, not f32", view.dtype())));
        }
        let data =
            TensorData::try_from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32)
                .map_err(|error| refuse(format!("`{name}`: {error}")))?;
        values.insert(name.to_owned(), data);
    }
    let mut net = info.model.init(0, device);
    let report = state_dict::load_net(&mut net, &info.model, values)
        .map_err(|source| CheckpointError::Unfit { path: path.to_owned(), source })?;
    if let Some(name) = report.missing.first().or(report.unexpected.first()) {
        return Err(refuse(format!("its tensors do not match its header: `{name}`")));
    }
    Ok((net, info))
}
