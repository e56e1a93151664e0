//! Exporting weights for other programs.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};

use super::files::write_atomically;
use super::weights::{read, rebuild};
use super::{CheckpointError, CheckpointInfo};
use crate::options::choices;

choices! {
    /// The naming scheme of exported weights.
    pub Layout {
        /// All weights, with polyview's names (`backbone.stem.0.weight`, `heads.<task>.0.weight`).
        Polyview = "polyview",
        /// The backbone alone, with the names of torchvision.models.video (`stem.0.weight`).
        Torchvision = "torchvision",
    }
}

/// Shape of the clip whose features are stored with an export, `[N, C, T, H, W]`.
const PROBE: [usize; 5] = [1, 3, 4, 32, 32];

/// Writes a checkpoint's weights as a plain safetensors file; returns the number of tensors.
///
/// Its metadata contain `polyview`, the checkpoint's header as JSON, and `features`: the backbone's
/// output for the clip of shape [1, 3, 4, 32, 32] whose i-th value is
/// ((7919·i) mod 2003) / 1001 − 1, to verify the weights after loading them elsewhere.
///
/// # Errors
/// [`CheckpointError`]: `checkpoint` cannot be read, or `out` cannot be written.
pub fn export(checkpoint: &Path, out: &Path, layout: Layout) -> Result<usize, CheckpointError> {
    let device = Device::flex();
    let (info, tensors, _) = read(checkpoint)?;
    let net = rebuild(checkpoint, &info, tensors.clone(), &device)?;
    let count: usize = PROBE.iter().product();
    let clip: Vec<f32> =
        (0..count).map(|i| ((i * 7919 % 2003) as f64 / 1001.0 - 1.0) as f32).collect();
    let clip = Tensor::<5>::from_data(TensorData::new(clip, PROBE), &device);
    let fail = |reason: String| CheckpointError::Write {
        path: out.to_owned(),
        source: std::io::Error::other(reason),
    };
    let features = net.backbone.forward(clip).try_into_vec_as::<f32>();
    let features = features.map_err(|error| fail(error.to_string()))?;
    let text = |value: serde_json::Result<String>| value.map_err(|error| fail(error.to_string()));
    let metadata = HashMap::from([
        ("polyview".to_owned(), text(serde_json::to_string::<CheckpointInfo>(&info))?),
        ("features".to_owned(), text(serde_json::to_string(&features))?),
    ]);
    let named: Vec<(String, &TensorData)> = tensors
        .iter()
        .filter_map(|(name, data)| match layout {
            Layout::Polyview => Some((name.clone(), data)),
            Layout::Torchvision => Some((name.strip_prefix("backbone.")?.to_owned(), data)),
        })
        .collect();
    let views: Vec<(&String, TensorView<'_>)> = named
        .iter()
        .map(|(name, data)| {
            let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes());
            view.map(|view| (name, view)).map_err(|error| fail(error.to_string()))
        })
        .collect::<Result<_, _>>()?;
    let bytes = safetensors::serialize(views, Some(metadata));
    write_atomically(out, &bytes.map_err(|error| fail(error.to_string()))?)?;
    Ok(named.len())
}
