//! Weight files: a network's tensors and the header that describes it.

use std::path::Path;

use burn::tensor::Device;

use super::container::{self, Content};
use super::files::write_atomically;
use super::{CheckpointError, CheckpointInfo, FORMAT_VERSION};
use crate::model::MultiViewNet;
use crate::model::state_dict::{self, StateDict};

/// Writes a network's weights with the header `info`.
///
/// # Errors
/// [`CheckpointError::Write`], [`CheckpointError::Unfit`], [`CheckpointError::NotFinite`].
pub fn save(path: &Path, net: &MultiViewNet, info: &CheckpointInfo) -> Result<(), CheckpointError> {
    write_atomically(path, &encode(path, net, info)?.0)
}

/// Returns the bytes of a weight file, which may be written to several paths, and the checksum of its
/// content. `path` is for errors.
///
/// # Errors
/// [`CheckpointError::Write`], [`CheckpointError::Unfit`], [`CheckpointError::NotFinite`].
pub(crate) fn encode(
    path: &Path,
    net: &MultiViewNet,
    info: &CheckpointInfo,
) -> Result<(Vec<u8>, String), CheckpointError> {
    let tensors = state_dict::collect_net(net, &info.model)
        .map_err(|source| CheckpointError::Unfit { path: path.to_owned(), source })?;
    refuse_not_finite(path, &tensors)?;
    let text = serde_json::to_string(info).map_err(|error| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })?;
    container::encode(path, &text, &tensors)
}

/// Reads a weight file: its header, its tensors by their names in the file, and its checksum.
///
/// # Errors
/// [`CheckpointError::Read`].
pub(crate) fn read(path: &Path) -> Result<(CheckpointInfo, StateDict, String), CheckpointError> {
    described(path, container::read(path)?)
}

/// Like [`read`], from the file's bytes; `path` is for errors.
pub(crate) fn decode(
    path: &Path,
    bytes: &[u8],
) -> Result<(CheckpointInfo, StateDict, String), CheckpointError> {
    described(path, container::decode(path, bytes)?)
}

fn described(
    path: &Path,
    content: Content,
) -> Result<(CheckpointInfo, StateDict, String), CheckpointError> {
    let refuse = |reason: String| CheckpointError::Read { path: path.to_owned(), reason };
    let Content { text, tensors, checksum } = content;
    let info: CheckpointInfo = serde_json::from_str(&text).map_err(|error| {
        refuse(match path.extension() {
            Some(extension) if extension == "state" => {
                "it is the state of a run, whose weights are in the .safetensors file beside it"
                    .to_owned()
            }
            _ => format!("bad header: {error}"),
        })
    })?;
    if info.format_version > FORMAT_VERSION {
        return Err(refuse(format!(
            "it has format {}, but polyview {} reads formats up to {FORMAT_VERSION}",
            info.format_version,
            env!("CARGO_PKG_VERSION")
        )));
    }
    Ok((info, tensors, checksum))
}

/// Reads a weight file and rebuilds its network on `device`.
///
/// # Errors
/// [`CheckpointError::Read`], [`CheckpointError::Unfit`], [`CheckpointError::NotFinite`].
pub fn load(
    path: &Path,
    device: &Device,
) -> Result<(MultiViewNet, CheckpointInfo), CheckpointError> {
    let (info, tensors, _) = read(path)?;
    Ok((rebuild(path, &info, tensors, device)?, info))
}

fn refuse_not_finite(path: &Path, tensors: &StateDict) -> Result<(), CheckpointError> {
    let not_finite = |tensor: &str| {
        Err(CheckpointError::NotFinite { path: path.to_owned(), tensor: tensor.to_owned() })
    };
    state_dict::first_not_finite(tensors).map_or(Ok(()), not_finite)
}

/// Builds the network from a weight file's content. `path` is for errors.
pub(crate) fn rebuild(
    path: &Path,
    info: &CheckpointInfo,
    tensors: StateDict,
    device: &Device,
) -> Result<MultiViewNet, CheckpointError> {
    refuse_not_finite(path, &tensors)?;
    let is_only_backbone = tensors.keys().any(|name| name.starts_with("layer1."));
    let mut net = info.model.init(0, device);
    let report = state_dict::load_net(&mut net, &info.model, tensors)
        .map_err(|source| CheckpointError::Unfit { path: path.to_owned(), source })?;
    if let Some(name) = report.missing.first().or(report.unexpected.first()) {
        let reason = if is_only_backbone {
            "it contains only a backbone, without heads".to_owned()
        } else {
            format!("its tensors do not match its header: `{name}`")
        };
        return Err(CheckpointError::Read { path: path.to_owned(), reason });
    }
    Ok(net)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::model::{BackboneKind, ModelConfig};
    use crate::schema::Schema;

    #[test]
    fn weights_that_are_not_finite_are_neither_written_nor_read() {
        let (schema, device) = (Schema::mvfoul().unwrap(), Device::flex());
        let info = CheckpointInfo::new(&schema, ModelConfig::new(BackboneKind::R3dTiny, &schema));
        let net = info.model.init(1, &device);
        let mut tensors = state_dict::collect_net(&net, &info.model).unwrap();
        let (name, data) = tensors.get_index_mut(7).unwrap();
        let name = name.clone();
        let mut values: Vec<f32> = data.iter::<f32>().collect();
        *values.last_mut().unwrap() = f32::NEG_INFINITY;
        *data = TensorData::new(values, data.shape().to_vec());
        let path = Path::new("weights.safetensors");
        let error = refuse_not_finite(path, &tensors).unwrap_err().to_string();
        assert_eq!(error, format!("weights.safetensors: the weights of `{name}` are not finite"));
        assert!(matches!(
            rebuild(path, &info, tensors, &device),
            Err(CheckpointError::NotFinite { .. })
        ));
        assert!(encode(path, &net, &info).is_ok());
    }
}
