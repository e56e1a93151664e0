//! A network's parameters and running statistics by name, in PyTorch's layout and under the names of
//! public weights: the content of weight files, and what tests compare.

use burn::module::Module;
use burn::tensor::{DType, TensorData};
use burn_store::{ApplyError, BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, bridge};
use indexmap::IndexMap;

use super::{ModelConfig, MultiViewNet};

/// Name → values, in the order of the network. Linear weights are `[out, in]`.
pub type StateDict = IndexMap<String, TensorData>;

/// Why a state dict could not be read or loaded.
#[derive(Debug, thiserror::Error)]
pub enum StateDictError {
    /// A tensor has another shape than the network's.
    #[error("`{name}` has shape {found:?}, but the network needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// A tensor's values could not be read or converted.
    #[error("`{name}`: {reason}")]
    Values {
        /// The tensor.
        name: String,
        /// The library's message.
        reason: String,
    },
}

/// Outcome of [`load`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Number of tensors loaded.
    pub loaded: usize,
    /// Tensors of the network that the state dict lacks; they keep their values.
    pub missing: Vec<String>,
    /// Tensors of the state dict that the network does not have.
    pub unexpected: Vec<String>,
}

/// Maximum number of tensor names that a line lists.
const LISTED: usize = 8;

impl LoadReport {
    /// Describes missing and unexpected tensors in one line; `None` if there are none. If they all
    /// belong to heads, as with weights of another data set, the line names the heads' tasks instead.
    pub fn differences(&self) -> Option<String> {
        let found = [
            ("missing", "new heads", &self.missing),
            ("unexpected", "heads left out", &self.unexpected),
        ];
        let parts: Vec<String> = found
            .into_iter()
            .filter(|(.., names)| !names.is_empty())
            .map(|(tensors, heads, names)| match heads_of(names) {
                Some(tasks) => format!("{heads}: {}", tasks.join(", ")),
                None => {
                    let rest = names.len().saturating_sub(LISTED);
                    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                    format!("{tensors}: {}{more}", names[..names.len() - rest].join(", "))
                }
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Returns the tasks whose heads these tensors belong to; `None` if one of them is not part of a head.
fn heads_of(names: &[String]) -> Option<Vec<&str>> {
    fn task(name: &str) -> Option<&str> {
        name.strip_prefix("heads.")?.split('.').next()
    }
    let mut tasks = names.iter().map(|name| task(name)).collect::<Option<Vec<&str>>>()?;
    let mut seen = std::collections::HashSet::new();
    tasks.retain(|task| seen.insert(*task));
    Some(tasks)
}

/// Reads all parameters and running statistics of any module, under its own paths.
pub fn collect<M: Module>(module: &M) -> Result<StateDict, StateDictError> {
    module
        .collect(None, Some(Box::new(BurnToPyTorchAdapter)), true)
        .into_iter()
        .map(|tensor| {
            let name = tensor.name.clone();
            match bridge::into_data(tensor) {
                Ok(data) => Ok((name, data)),
                Err(error) => Err(StateDictError::Values { name, reason: error.to_string() }),
            }
        })
        .collect()
}

/// Loads values into any module, by its own paths. Values of any float width are converted to f32.
pub fn load<M: Module>(module: &mut M, values: StateDict) -> Result<LoadReport, StateDictError> {
    let tensors = values
        .into_iter()
        .map(|(name, data)| bridge::from_data(data.convert_dtype(DType::F32), name, None))
        .collect();
    let result = module.apply(tensors, None, Some(Box::new(PyTorchToBurnAdapter)), true);
    if let Some(error) = result.errors.into_iter().next() {
        return Err(match error {
            ApplyError::ShapeMismatch { path, expected, found } => StateDictError::Shape {
                name: path,
                expected: expected.to_vec(),
                found: found.to_vec(),
            },
            ApplyError::DTypeMismatch { path, expected, found } => StateDictError::Values {
                name: path,
                reason: format!("contains {found:?}, but the network needs {expected:?}"),
            },
            ApplyError::AdapterError { path, message }
            | ApplyError::LoadError { path, message } => {
                StateDictError::Values { name: path, reason: message }
            }
        });
    }
    Ok(LoadReport {
        loaded: result.applied.len(),
        missing: result.missing.into_iter().map(|(path, _)| path).collect(),
        unexpected: result.unused,
    })
}

/// Converts the values to f32, whatever their type.
///
/// # Errors
/// [`StateDictError::Values`] for values that are not numbers.
pub(crate) fn in_f32(values: StateDict) -> Result<StateDict, StateDictError> {
    let convert = |(name, data): (String, TensorData)| match data.try_cast(DType::F32) {
        Ok(data) => Ok((name, data)),
        Err(error) => Err(StateDictError::Values { name, reason: error.to_string() }),
    };
    values.into_iter().map(convert).collect()
}

/// Mapping between the names in the network and in files, as pairs of prefixes (network, file). In
/// files, the paths of view pool, heads and some stems are shorter, and a head has its task's name.
struct Names(Vec<(String, String)>);

impl Names {
    fn new(config: &ModelConfig) -> Self {
        let renamed = [
            ("view_pool.attention.", "attention."),
            // In Hara et al.'s files, the stem's layers have no common prefix.
            ("backbone.stem.conv1.", "backbone.conv1."),
            ("backbone.stem.bn1.", "backbone.bn1."),
        ];
        let mut pairs = renamed.map(|(inside, file)| (inside.to_owned(), file.to_owned())).to_vec();
        let mut add = |list: &str, inner: &str, names: Vec<&String>| {
            for (index, name) in names.into_iter().enumerate() {
                pairs.push((format!("{list}.{index}.{inner}"), format!("{list}.{name}.")));
            }
        };
        add("heads", "layers.", config.tasks.iter().map(|(name, _)| name).collect());
        add("auxiliary", "layers.", config.auxiliary.iter().map(|(name, _)| name).collect());
        add("inputs", "", config.inputs.iter().map(|input| &input.name).collect());
        Self(pairs)
    }

    fn in_file(&self, path: &str) -> String {
        let swap =
            |(inside, file): &(String, String)| Some(file.clone() + path.strip_prefix(inside)?);
        self.0.iter().find_map(swap).unwrap_or_else(|| path.to_owned())
    }

    fn in_network(&self, name: &str) -> String {
        let swap =
            |(inside, file): &(String, String)| Some(inside.clone() + name.strip_prefix(file)?);
        self.0.iter().find_map(swap).unwrap_or_else(|| name.to_owned())
    }
}

/// Returns the name of the first tensor with a value that is NaN or infinite.
pub(crate) fn first_not_finite(values: &StateDict) -> Option<&str> {
    // A slice, not an iterator: a checkpoint has tens of millions of values.
    let finite = |data: &TensorData| {
        let values = data.as_slice::<f32>().expect("weights are f32");
        values.iter().all(|value| value.is_finite())
    };
    values.iter().find(|(_, data)| !finite(data)).map(|(name, _)| name.as_str())
}

/// Returns all parameters and running statistics of a network: `backbone.…` with the names of its public
/// weights, `attention.…`, `heads.<task>.…`, `auxiliary.<property>.…` and `inputs.<property>.…`.
pub fn collect_net(net: &MultiViewNet, config: &ModelConfig) -> Result<StateDict, StateDictError> {
    let names = Names::new(config);
    Ok(collect(net)?.into_iter().map(|(path, data)| (names.in_file(&path), data)).collect())
}

/// The reverse of [`collect_net`]; missing and unexpected tensors are reported by their names in files.
pub fn load_net(
    net: &mut MultiViewNet,
    config: &ModelConfig,
    values: StateDict,
) -> Result<LoadReport, StateDictError> {
    let names = Names::new(config);
    let values = values.into_iter().map(|(name, data)| (names.in_network(&name), data)).collect();
    let in_file = |paths: Vec<String>| paths.iter().map(|path| names.in_file(path)).collect();
    match load(net, values) {
        Ok(report) => Ok(LoadReport {
            loaded: report.loaded,
            missing: in_file(report.missing),
            unexpected: in_file(report.unexpected),
        }),
        Err(StateDictError::Shape { name, expected, found }) => {
            Err(StateDictError::Shape { name: names.in_file(&name), expected, found })
        }
        Err(StateDictError::Values { name, reason }) => {
            Err(StateDictError::Values { name: names.in_file(&name), reason })
        }
    }
}
