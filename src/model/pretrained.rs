//! Starting from weights that somebody else trained: torchvision's Kinetics files (.pth, .pt,
//! .safetensors), or polyview's own.

use std::path::{Path, PathBuf};

use burn_store::{ModuleStore, PytorchStore, SafetensorsStore, bridge};

use super::state_dict::{self, LoadReport, StateDict, StateDictError};
use super::{ModelConfig, MultiViewNet};

/// Why a weight file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// Neither of the known endings.
    #[error("{}: weights are read from .pth, .pt and .safetensors files", .0.display())]
    Ending(PathBuf),
    /// The file could not be read as what its ending says.
    #[error("{}: cannot be read as a weight file: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reader's words.
        reason: String,
    },
    /// A tensor that does not fit.
    #[error("{}: {source}: were these weights made for another backbone?", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: StateDictError,
    },
    /// No name in common with the network.
    #[error("{}: none of its {found} tensors belongs to {backbone}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Tensors in the file.
        found: usize,
        /// The backbone asked for.
        backbone: &'static str,
    },
}

/// The tensors of a weight file under the names it has, whatever its format.
pub fn read_weights(path: &Path) -> Result<StateDict, PretrainedError> {
    let unreadable = |reason: String| PretrainedError::Unreadable { path: path.to_owned(), reason };
    if let Err(error) = std::fs::File::open(path) {
        return Err(unreadable(error.to_string()));
    }
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match ending.to_ascii_lowercase().as_str() {
        "safetensors" => tensors_of(SafetensorsStore::from_file(path)).map_err(unreadable),
        // Index gaps as in `stem.0, stem.1, stem.3` are names here, not something to close up.
        "pth" | "pt" => tensors_of(PytorchStore::from_file(path).map_indices_contiguous(false))
            .map_err(unreadable),
        _ => Err(PretrainedError::Ending(path.to_owned())),
    }
}

fn tensors_of(mut store: impl ModuleStore) -> Result<StateDict, String> {
    let tensors = store.get_all_tensors().map_err(|error| error.to_string())?;
    tensors
        .iter()
        .map(|(name, tensor)| {
            let data = bridge::to_data(tensor).map_err(|error| format!("`{name}`: {error}"))?;
            Ok((name.clone(), data))
        })
        .collect()
}

/// Loads weights from a file into the network. torchvision's names get their `backbone.` prefix;
/// the 400-class `fc` and batch counters are dropped. The report lists what the file lacked and
/// what it held too much; heads missing from a file without any head are not worth a word.
pub fn load_pretrained(
    net: &mut MultiViewNet,
    config: &ModelConfig,
    path: &Path,
) -> Result<LoadReport, PretrainedError> {
    let raw = read_weights(path)?;
    let found = raw.len();
    let own_names = raw.keys().any(|name| name.starts_with("backbone."));
    let values: StateDict = raw
        .into_iter()
        .filter(|(name, _)| !name.starts_with("fc.") && !name.ends_with("num_batches_tracked"))
        .map(
            |(name, data)| {
                if own_names { (name, data) } else { (format!("backbone.{name}"), data) }
            },
        )
        .collect();
    let mut report = state_dict::load_net(net, config, values)
        .map_err(|source| PretrainedError::Unfit { path: path.to_owned(), source })?;
    if report.loaded == 0 {
        let backbone = config.backbone.name();
        return Err(PretrainedError::Foreign { path: path.to_owned(), found, backbone });
    }
    if !own_names {
        report.missing.retain(|name| name.starts_with("backbone."));
        for name in &mut report.unexpected {
            if let Some(plain) = name.strip_prefix("backbone.") {
                *name = plain.to_owned();
            }
        }
    }
    Ok(report)
}
