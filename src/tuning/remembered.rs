//! The file of chosen variants: one for each device and each version of the kernels.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TuningPass;
use crate::conv::wgsl::{ConvVariant, shader_texts};
use crate::conv::{ConvPass, ConvShape, Trial};
use crate::device::DeviceInfo;

/// The fastest variant for one pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Entry {
    pub pass: ConvPass,
    pub shape: ConvShape,
    /// Whether activations were in half precision.
    pub half: bool,
    /// Size of the matrix units that were available. The same device may also be used without.
    pub units: Option<u32>,
    pub choice: ConvVariant,
    /// Milliseconds of the chosen variant.
    pub ms: f64,
    /// Milliseconds of the variant that the device's limits suggest.
    pub usual_ms: f64,
}

impl Entry {
    pub(super) fn new((pass, shape): TuningPass, kind: Kind, trial: Trial) -> Self {
        let (Kind { half, units }, Trial { choice, ms, usual_ms }) = (kind, trial);
        Self { pass, shape, half, units, choice, ms, usual_ms }
    }

    /// Returns the pass, and the circumstances in which the choice applies.
    fn key(&self) -> (TuningPass, Kind) {
        ((self.pass, self.shape), Kind { half: self.half, units: self.units })
    }
}

/// What a choice depends on, besides the pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kind {
    pub half: bool,
    pub units: Option<u32>,
}

/// Contents of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// The device's name, API and driver.
    device: String,
    entries: Vec<Entry>,
}

/// The stored choices for a device.
#[derive(Debug)]
pub(super) struct Remembered {
    file: Option<PathBuf>,
    contents: Contents,
}

impl Remembered {
    /// Reads what `folder` has stored for this device.
    pub(super) fn open(folder: Option<&Path>, device: &DeviceInfo) -> Self {
        let device = format!("{}, {}, {}", device.name, device.api, device.driver);
        let file = folder.map(|folder| folder.join(file_name(&device)));
        let contents = file.as_deref().and_then(read).filter(|found| found.device == device);
        let empty = || Contents { device, entries: Vec::new() };
        Self { contents: contents.unwrap_or_else(empty), file }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn find(&self, job: &TuningPass, kind: Kind) -> Option<&Entry> {
        self.contents.entries.iter().find(|entry| entry.key() == (*job, kind))
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.contents.entries.retain(|old| old.key() != entry.key());
        self.contents.entries.push(entry);
    }

    /// Replaces the file, except for what other processes have added to it. If that fails, warns
    /// and does not try again.
    pub(super) fn write(&mut self) {
        let Some(file) = self.file.clone() else { return };
        let found = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let found = found.filter(|found: &Contents| found.device == self.contents.device);
        for entry in found.into_iter().flat_map(|found| found.entries) {
            let (job, kind) = entry.key();
            if self.find(&job, kind).is_none() {
                self.contents.entries.push(entry);
            }
        }
        if let Err(error) = write(&file, &self.contents) {
            log::warn!("{}: the results of tuning cannot be stored: {error}", file.display());
            self.file = None;
        }
    }
}

/// Returns the file's name, which is derived from the device and the source of all kernels, because
/// the choices depend on both.
fn file_name(device: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(device);
    for (name, source) in shader_texts() {
        hash.update(name);
        hash.update(source);
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.json")
}

/// Reads the file; `None` if it is missing or damaged.
fn read(file: &Path) -> Option<Contents> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::warn!(
                "{}: cannot be read, so all variants are timed again: {error}",
                file.display()
            );
            return None;
        }
    };
    serde_json::from_slice(&text)
        .inspect_err(|error| {
            log::warn!("{}: damaged, so all variants are timed again: {error}", file.display());
        })
        .ok()
}

fn write(file: &Path, contents: &Contents) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_vec_pretty(contents)?;
    let mut open = AtomicWriteFile::open(file)?;
    open.write_all(&text)?;
    open.commit()
}
