//! Exporting weights for other programs.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::SafeTensors;

use super::container::{CHECKSUM, KEY, checksum, serialize};
use super::files::write_atomically;
use super::weights::{read, rebuild};
use super::{CheckpointError, CheckpointInfo};
use crate::half::{Precision, beyond_range};
use crate::model::state_dict::{StateDict, in_f32};
use crate::options::choices;

choices! {
    /// The naming scheme of exported weights.
    pub Layout {
        /// All weights, with polyview's names (`backbone.stem.0.weight`, `heads.<task>.0.weight`).
        Polyview = "polyview",
        /// Only the backbone, with the names of its public weights: torchvision.models.video's
        /// (`stem.0.weight`), or 3D-ResNets-PyTorch's for r3d_34 and r3d_50 (`conv1.weight`).
        Torchvision = "torchvision",
    }
}

/// Metadata key of the features; of polyview's files, only exports have it.
const FEATURES: &str = "features";
/// Shape of the clip whose features are stored with an export, `[N, C, T, H, W]`.
const PROBE: [usize; 5] = [1, 3, 4, 32, 32];

/// Writes a checkpoint's weights as a plain safetensors file; returns the number of tensors.
///
/// With `half`, the weights of convolutions, linear layers and embeddings are stored as f16. Tensors with
/// one dimension stay f32: biases and batch norm's parameters and statistics, whose variances may be too
/// small for f16; they take hardly any space.
///
/// The file's metadata contain `polyview`, the checkpoint's header as JSON; `checksum`, over that and the
/// tensors; `precision` (`f32`, or `f16` with `half`); and `features`: the output of the backbone with
/// the stored weights for the clip of shape [1, 3, 4, 32, 32] whose i-th value is
/// ((7919·i) mod 2003) / 1001 − 1, to verify the weights after loading them elsewhere.
///
/// # Errors
/// [`CheckpointError`] if `checkpoint` cannot be read, `out` cannot be written, or a weight is beyond the
/// range of f16.
pub fn export(
    checkpoint: &Path,
    out: &Path,
    layout: Layout,
    half: bool,
) -> Result<usize, CheckpointError> {
    let device = Device::flex();
    let (info, mut tensors, _) = read(checkpoint)?;
    if half {
        tensors = in_half(checkpoint, tensors)?;
    }
    let fail = |reason: String| CheckpointError::Write {
        path: out.to_owned(),
        source: std::io::Error::other(reason),
    };
    let stored = in_f32(tensors.clone()).map_err(|error| fail(error.to_string()))?;
    let net = rebuild(checkpoint, &info, stored, &device)?;
    let count: usize = PROBE.iter().product();
    let clip: Vec<f32> =
        (0..count).map(|i| ((i * 7919 % 2003) as f64 / 1001.0 - 1.0) as f32).collect();
    let clip = Tensor::<5>::from_data(TensorData::new(clip, PROBE), &device);
    let features = net.backbone.forward(clip).try_into_vec_as::<f32>();
    let features = features.map_err(|error| fail(error.to_string()))?;
    if layout == Layout::Torchvision {
        let of_backbone = |(name, data): (String, TensorData)| {
            Some((name.strip_prefix("backbone.")?.to_owned(), data))
        };
        tensors = tensors.into_iter().filter_map(of_backbone).collect();
    }
    let text = |value: serde_json::Result<String>| value.map_err(|error| fail(error.to_string()));
    let about = text(serde_json::to_string::<CheckpointInfo>(&info))?;
    let metadata = HashMap::from([
        (CHECKSUM.to_owned(), checksum(&about, &tensors)),
        (KEY.to_owned(), about),
        ("precision".to_owned(), Precision::of(half).to_string()),
        (FEATURES.to_owned(), text(serde_json::to_string(&features))?),
    ]);
    write_atomically(out, &serialize(out, &tensors, metadata)?)?;
    Ok(tensors.len())
}

/// Whether [`export`] wrote the file.
pub(crate) fn is_export(path: &Path) -> bool {
    let Ok(bytes) = std::fs::read(path) else { return false };
    let header = SafeTensors::read_metadata(&bytes).ok();
    header.is_some_and(|(_, header)| {
        let metadata = header.metadata().as_ref();
        metadata.is_some_and(|all| all.contains_key(KEY) && all.contains_key(FEATURES))
    })
}

/// Converts the tensors with two or more dimensions to f16. `path` is for errors.
fn in_half(path: &Path, tensors: StateDict) -> Result<StateDict, CheckpointError> {
    let convert = |(name, data): (String, TensorData)| {
        if data.shape().len() < 2 {
            return Ok((name, data));
        }
        let half = data.try_cast(DType::F16).map_err(|error| CheckpointError::Read {
            path: path.to_owned(),
            reason: format!("`{name}`: {error}"),
        })?;
        if beyond_range(half.as_bytes()) {
            return Err(CheckpointError::BeyondHalf { path: path.to_owned(), tensor: name });
        }
        Ok((name, half))
    };
    tensors.into_iter().map(convert).collect()
}
