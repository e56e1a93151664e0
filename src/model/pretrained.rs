//! Loading pretrained weights: public files (.pth, .pt, .safetensors), or polyview's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn_store::{ModuleStore, PytorchStore, SafetensorsStore, bridge};

use super::state_dict::{self, LoadReport, StateDict, StateDictError};
use super::{ModelConfig, MultiViewNet};
use crate::units::plural;

/// Why a weight file was refused.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// The file's extension is not a known one.
    #[error("{}: weights are read from .pth, .pt and .safetensors files", .0.display())]
    Ending(PathBuf),
    /// The file could not be read in the format that its extension names.
    #[error("{}: cannot be read as a weight file: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reader's message.
        reason: String,
    },
    /// A tensor does not fit the network.
    #[error("{}: {source}: were these weights made for another backbone?", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: StateDictError,
    },
    /// A weight is NaN or infinite.
    #[error("{}: `{tensor}` is not finite: the weights have diverged", .path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the network.
        tensor: String,
    },
    /// The file has no tensor name in common with the network.
    #[error("{}: none of its {} belongs to {backbone}{names}", .path.display(), plural(*.found, "tensor"))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Number of tensors in the file.
        found: usize,
        /// The end of the message: the names of the first few tensors; empty if the file has none.
        names: String,
        /// Name of the requested backbone.
        backbone: &'static str,
    },
}

/// Reads the tensors of a weight file in any supported format, under the names in the file. A
/// checkpoint of the old PyTorch trainer is unwrapped (`model_state_dict`), and the `module.` that
/// data-parallel training puts before every name is dropped.
pub fn read_weights(path: &Path) -> Result<StateDict, PretrainedError> {
    let unreadable = |reason: String| PretrainedError::Unreadable { path: path.to_owned(), reason };
    if let Err(error) = std::fs::File::open(path) {
        return Err(unreadable(error.to_string()));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let tensors = match extension.to_ascii_lowercase().as_str() {
        "safetensors" => tensors_of(SafetensorsStore::from_file(path)).map_err(unreadable)?,
        "pth" | "pt" => pickled(path).map_err(unreadable)?,
        _ => return Err(PretrainedError::Ending(path.to_owned())),
    };
    let plain = |name: String| name.strip_prefix("module.").map_or(name.clone(), str::to_owned);
    Ok(tensors.into_iter().map(|(name, data)| (plain(name), data)).collect())
}

/// Keys under which trainers store the weights in a checkpoint.
const INNER: [&str; 5] = ["model_state_dict", "state_dict", "model", "net", "weights"];
/// Number of tensor names that an error quotes.
const QUOTED: usize = 3;

fn pickled(path: &Path) -> Result<StateDict, String> {
    // Keeps gaps in the indices (`stem.0, stem.1, stem.3`): the numbers are part of the names.
    let open = || PytorchStore::from_file(path).map_indices_contiguous(false);
    for key in INNER {
        if let Ok(tensors) = tensors_of(open().with_top_level_key(key))
            && !tensors.is_empty()
        {
            return Ok(tensors);
        }
    }
    tensors_of(open())
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

/// Renames another trainer's heads and view attention to polyview's names, recognising them by their
/// shapes: a group of tensors that begins with Linear(features→256) and ends with Linear(256→classes)
/// is the head of the task with that number of classes, if there is only one; a group that begins with
/// Linear(features→128) and ends with Linear(128→1) is the attention.
fn rename_heads(values: StateDict, config: &ModelConfig) -> StateDict {
    let features = config.backbone.features();
    let group = |name: &str| -> Option<(String, usize)> {
        let (path, _) = name.rsplit_once('.')?;
        let (group, number) = path.rsplit_once('.')?;
        Some((group.to_owned(), number.parse().ok()?))
    };
    let mut groups: BTreeMap<String, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
    for (name, data) in &values {
        if !name.starts_with("backbone.")
            && name.ends_with(".weight")
            && let Some((group, number)) = group(name)
        {
            groups.entry(group).or_default().insert(number, data.shape().to_vec());
        }
    }
    // (group, layer number) → polyview's name without its last part.
    let mut renamed: BTreeMap<(String, usize), String> = BTreeMap::new();
    for (group, layers) in groups {
        let (Some((first, from)), Some((last, to))) =
            (layers.first_key_value(), layers.last_key_value())
        else {
            continue;
        };
        let target = match (from.as_slice(), to.as_slice()) {
            ([128, inputs], [1, 128]) if *inputs == features => Some("attention".to_owned()),
            ([256, inputs], [classes, 256]) if *inputs == features => {
                let mut fitting = config.tasks.iter().filter(|(_, count)| count == classes);
                match (fitting.next(), fitting.next()) {
                    (Some((task, _)), None) => Some(format!("heads.{task}")),
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(target) = target {
            renamed.insert((group.clone(), *first), format!("{target}.0"));
            renamed.insert((group, *last), format!("{target}.2"));
        }
    }
    let rename = |name: String| -> String {
        let position = group(&name).and_then(|position| renamed.get(&position));
        match (position, name.rsplit_once('.')) {
            (Some(ours), Some((_, kind))) => format!("{ours}.{kind}"),
            _ => name,
        }
    };
    values.into_iter().map(|(name, data)| (rename(name), data)).collect()
}

/// Loads weights from a file into the network. Public names get the prefix `backbone.`, and other
/// trainers' heads get polyview's names; the classifier `fc` and batch counters are dropped. The report
/// lists missing and unexpected tensors; for a file of a public backbone, it does not list the heads
/// as missing.
pub fn load_pretrained(
    net: &mut MultiViewNet,
    config: &ModelConfig,
    path: &Path,
) -> Result<LoadReport, PretrainedError> {
    let raw = read_weights(path)?;
    let found = raw.len();
    let first: Vec<String> = raw.keys().take(QUOTED).cloned().collect();
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
    let unfit = |source| PretrainedError::Unfit { path: path.to_owned(), source };
    let values = state_dict::in_f32(rename_heads(values, config)).map_err(unfit)?;
    if let Some(tensor) = state_dict::first_not_finite(&values) {
        return Err(PretrainedError::NotFinite {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
        });
    }
    let mut report = state_dict::load_net(net, config, values).map_err(unfit)?;
    if report.loaded == 0 {
        let backbone = config.backbone.name();
        let more = if found > first.len() { ", …" } else { "" };
        let names = match first.is_empty() {
            true => String::new(),
            false => format!(": they are called {}{more}", first.join(", ")),
        };
        return Err(PretrainedError::Foreign { path: path.to_owned(), found, names, backbone });
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
