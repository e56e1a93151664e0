//! The container format of both files of a checkpoint: a safetensors file with named f32 tensors, a text
//! in its metadata, and a checksum over everything. Exports can be read too: their checksum is a separate
//! metadata entry, and some of their tensors may be f16.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

use super::CheckpointError;
use super::files::write_atomically;
use crate::model::state_dict::{StateDict, in_f32};

/// Key of a checkpoint's only metadata entry. There is only one, because a map has no order and the same
/// content must give the same bytes.
pub(super) const KEY: &str = "polyview";
/// Maximum length of a text in the metadata. A safetensors header is limited to 100 MB, in which every
/// line break and quotation mark of the text is escaped; the history of a run with a thousand classes
/// exceeds that. A longer text is stored as a tensor of bytes, under the same key.
const MOST_IN_METADATA: usize = 32 << 20;
/// Key of an export's checksum.
pub(super) const CHECKSUM: &str = "checksum";

/// The content of a file.
pub(crate) struct Content {
    pub text: String,
    /// The tensors, converted to f32.
    pub tensors: StateDict,
    /// Checksum of text and tensors.
    pub checksum: String,
}

/// Computes the CRC-32 of the text and every tensor's name, shape and bytes.
pub(super) fn checksum(text: &str, tensors: &StateDict) -> String {
    let mut crc = crc32fast::Hasher::new();
    crc.update(text.as_bytes());
    // Sorted by name: safetensors does not keep the order in which tensors were written.
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort_unstable();
    for name in names {
        let data = &tensors[name];
        crc.update(name.as_bytes());
        for side in data.shape().iter() {
            crc.update(&(*side as u64).to_le_bytes());
        }
        crc.update(data.as_bytes());
    }
    format!("{:08x}", crc.finalize())
}

/// Returns the bytes of a file and the checksum of its content. `path` is for errors.
pub(crate) fn encode(
    path: &Path,
    text: &str,
    tensors: &StateDict,
) -> Result<(Vec<u8>, String), CheckpointError> {
    encode_with(path, text, tensors, MOST_IN_METADATA)
}

fn encode_with(
    path: &Path,
    text: &str,
    tensors: &StateDict,
    most: usize,
) -> Result<(Vec<u8>, String), CheckpointError> {
    let checksum = checksum(text, tensors);
    let (inline, as_tensor) = if text.len() <= most { (text, None) } else { ("", Some(text)) };
    let metadata = HashMap::from([(KEY.to_owned(), format!("{checksum}\n{inline}"))]);
    Ok((serialize_with(path, tensors, as_tensor, metadata)?, checksum))
}

/// Returns the bytes of a safetensors file of tensors in f32 or f16. `path` is for errors.
pub(super) fn serialize(
    path: &Path,
    tensors: &StateDict,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, CheckpointError> {
    serialize_with(path, tensors, None, metadata)
}

/// Like [`serialize`], with an optional text as a tensor of bytes.
fn serialize_with(
    path: &Path,
    tensors: &StateDict,
    text: Option<&str>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, CheckpointError> {
    let fail = |error: SafeTensorError| CheckpointError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    };
    let text = text.map(|text| {
        let view = TensorView::new(Dtype::U8, vec![text.len()], text.as_bytes());
        view.map(|view| (KEY, view)).map_err(fail)
    });
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, data)| {
            let dtype = if data.dtype() == DType::F16 { Dtype::F16 } else { Dtype::F32 };
            let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
            view.map(|view| (name.as_str(), view)).map_err(fail)
        })
        .chain(text)
        .collect::<Result<_, _>>()?;
    safetensors::serialize(views, Some(metadata)).map_err(fail)
}

/// Writes a safetensors file of tensors in f32 or f16.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &StateDict,
    metadata: HashMap<String, String>,
) -> Result<(), CheckpointError> {
    write_atomically(path, &serialize(path, tensors, metadata)?)
}

/// Verifies the checksum of a file if polyview wrote it.
///
/// # Errors
/// [`CheckpointError::Read`] if it does not match; other files are not checked.
pub(crate) fn verify(path: &Path) -> Result<(), CheckpointError> {
    // The code that loads the weights knows their format and reports a file that cannot be read.
    let Ok(bytes) = std::fs::read(path) else { return Ok(()) };
    let header = SafeTensors::read_metadata(&bytes).ok();
    let is_polyview = header.is_some_and(|(_, header)| {
        header.metadata().as_ref().is_some_and(|metadata| metadata.contains_key(KEY))
    });
    if is_polyview { decode(path, &bytes).map(drop) } else { Ok(()) }
}

/// Reads a file and verifies its checksum.
pub(crate) fn read(path: &Path) -> Result<Content, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|error| CheckpointError::Read {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    decode(path, &bytes)
}

/// Decodes a file's bytes and verifies their checksum. `path` is for errors.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Content, CheckpointError> {
    let refuse = |reason: String| CheckpointError::Read { path: path.to_owned(), reason };
    // safetensors' own messages complain about the header, whatever the file is.
    let invalid = |error| refuse(format!("not a safetensors file, or a truncated one ({error})"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
    let entry = |key: &str| header.metadata().as_ref().and_then(|metadata| metadata.get(key));
    let text = entry(KEY).ok_or_else(|| refuse("it has no polyview header".to_owned()))?;
    let (sum, text) = text
        .split_once('\n')
        .or_else(|| Some((entry(CHECKSUM)?.as_str(), text.as_str())))
        .ok_or_else(|| refuse("its polyview header is truncated".to_owned()))?;
    let file = SafeTensors::deserialize(bytes).map_err(invalid)?;
    let mut text = text;
    let mut tensors = StateDict::new();
    for (name, view) in file.iter() {
        if name == KEY && view.dtype() == Dtype::U8 {
            text = str::from_utf8(view.data()).map_err(|error| refuse(error.to_string()))?;
            continue;
        }
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            other => return Err(refuse(format!("`{name}` is {other:?}, neither f32 nor f16"))),
        };
        let shape = view.shape().to_vec();
        let data = TensorData::try_from_bytes_vec(view.data().to_vec(), shape, dtype)
            .map_err(|error| refuse(format!("`{name}`: {error}")))?;
        tensors.insert(name.to_owned(), data);
    }
    if checksum(text, &tensors) != sum {
        return Err(refuse("it is damaged: its checksum does not match its content".to_owned()));
    }
    let tensors = in_f32(tensors).map_err(|error| refuse(error.to_string()))?;
    Ok(Content { text: text.to_owned(), tensors, checksum: sum.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_stored_as_a_tensor() {
        let path = Path::new("last.state");
        let text = "confusion = [[1, 0],\n[0, 1]]\n".repeat(8);
        let data = TensorData::from([1.0_f32, -0.0]);
        let tensors = StateDict::from_iter([("bn.weight".to_owned(), data)]);
        let long = encode_with(path, &text, &tensors, 100).unwrap();
        let short = encode_with(path, &text, &tensors, 1000).unwrap();
        assert_eq!(long.1, short.1);
        let (_, header) = SafeTensors::read_metadata(&long.0).unwrap();
        assert!(header.metadata().as_ref().unwrap()[KEY].len() < 100);
        for (bytes, checksum) in [&long, &short] {
            let content = decode(path, bytes).unwrap();
            assert_eq!((&content.text, &content.checksum), (&text, checksum));
            assert_eq!(content.tensors, tensors);
        }
        // The checksum covers its bytes.
        let mut damaged = long.0;
        let last = damaged.iter().rposition(|&byte| byte == b'1').unwrap();
        damaged[last] = b'7';
        assert!(decode(path, &damaged).is_err_and(|error| error.to_string().contains("damaged")));
    }
}
