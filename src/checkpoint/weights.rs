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
/// [`CheckpointError::Write`], [`CheckpointError::Unfit`].
pub fn save(path: &Path, net: &MultiViewNet, info: &CheckpointInfo) -> Result<(), CheckpointError> {
    write_atomically(path, &encode(path, net, info)?.0)
}

/// The bytes of a weight file, to be written to more than one path, and their checksum. `path` is
/// for errors.
///
/// # Errors
/// [`CheckpointError::Write`], [`CheckpointError::Unfit`].
pub(crate) fn encode(
    path: &Path,
    net: &MultiViewNet,
    info: &CheckpointInfo,
) -> Result<(Vec<u8>, String), CheckpointError> {
    let tensors = state_dict::collect_net(net, &info.model)
        .map_err(|source| CheckpointError::Unfit { path: path.to_owned(), source })?;
    let text = serde_json::to_string(info).map_err(|error| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })?;
    container::encode(path, &text, &tensors)
}

/// A weight file's header, its tensors by their names in the file, and its checksum.
///
/// # Errors
/// [`CheckpointError::Read`].
pub(crate) fn read(path: &Path) -> Result<(CheckpointInfo, StateDict, String), CheckpointError> {
    let refuse = |reason: String| CheckpointError::Read { path: path.to_owned(), reason };
    let Content { text, tensors, checksum } = container::read(path)?;
    let info: CheckpointInfo =
        serde_json::from_str(&text).map_err(|error| refuse(format!("bad header: {error}")))?;
    if info.format_version > FORMAT_VERSION {
        return Err(refuse(format!(
            "it has format {}, polyview {} reads formats up to {FORMAT_VERSION}",
            info.format_version,
            env!("CARGO_PKG_VERSION")
        )));
    }
    Ok((info, tensors, checksum))
}

/// Reads a weight file and rebuilds its network on `device`.
///
/// # Errors
/// [`CheckpointError::Read`], [`CheckpointError::Unfit`].
pub fn load(
    path: &Path,
    device: &Device,
) -> Result<(MultiViewNet, CheckpointInfo), CheckpointError> {
    let (info, tensors, _) = read(path)?;
    Ok((rebuild(path, &info, tensors, device)?, info))
}

/// Builds the network from a weight file's content. `path` is for errors.
pub(crate) fn rebuild(
    path: &Path,
    info: &CheckpointInfo,
    tensors: StateDict,
    device: &Device,
) -> Result<MultiViewNet, CheckpointError> {
    let mut net = info.model.init(0, device);
    let report = state_dict::load_net(&mut net, &info.model, tensors)
        .map_err(|source| CheckpointError::Unfit { path: path.to_owned(), source })?;
    if let Some(name) = report.missing.first().or(report.unexpected.first()) {
        return Err(CheckpointError::Read {
            path: path.to_owned(),
            reason: format!("its tensors do not match its header: `{name}`"),
        });
    }
    Ok(net)
}
