//! Everything about this machine that decides whether and how polyview runs on it, for a bug report.
//!
//! [`examine`] only looks; [`SelfTest::run`] also computes something on a device.

mod programs;
mod self_test;
mod system;
mod vulkan;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::device::{self, DeviceInfo};

pub use programs::Ffmpeg;
pub use self_test::{SelfTest, SelfTestError};
pub use system::{Build, Machine};
pub use vulkan::Vulkan;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The program itself.
    pub build: Build,
    /// What it runs on.
    pub machine: Machine,
    /// How GPUs are reached; only on systems where that is through Vulkan's loader.
    pub vulkan: Option<Vulkan>,
    /// The program that decodes what is not decoded in process.
    pub ffmpeg: Ffmpeg,
    /// Folders that a run writes to.
    pub folders: Vec<Folder>,
    /// Every device.
    pub devices: Vec<DeviceInfo>,
    /// What may keep a run from working, each with what to do about it.
    pub problems: Vec<String>,
}

/// A folder that a run writes to.
#[derive(Debug, Clone, Serialize)]
pub struct Folder {
    /// What for.
    pub purpose: &'static str,
    /// As given; it need not exist.
    pub path: PathBuf,
    /// Bytes free for this user on its disk, where that can be told.
    pub free_bytes: Option<u64>,
    /// Why nothing can be written there.
    pub refused: Option<String>,
}

/// Less than this is too little for a run's checkpoints and cache.
const LITTLE_SPACE: u64 = 2_000_000_000;

/// Looks at the machine. `folders` are those that a run would write to, each with its purpose.
pub fn examine(folders: &[(&'static str, PathBuf)]) -> Report {
    let machine = Machine::look();
    let devices = device::list();
    let vulkan = Vulkan::look(&machine);
    let ffmpeg = Ffmpeg::look();
    let folders: Vec<Folder> =
        folders.iter().map(|(purpose, path)| Folder::look(purpose, path)).collect();
    let mut problems = Vec::new();
    let gpu = devices.iter().any(|device| !matches!(device.kind.as_str(), "cpu" | "software"));
    if let Some(vulkan) = &vulkan {
        problems.extend(vulkan.problems(&machine, gpu));
    }
    problems.extend(ffmpeg.problem(&machine));
    problems.extend(folders.iter().filter_map(Folder::problem));
    Report { build: Build::this(), machine, vulkan, ffmpeg, folders, devices, problems }
}

impl Folder {
    fn look(purpose: &'static str, path: &Path) -> Self {
        // The folder is made when a run starts, so what counts is the nearest one that exists.
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let existing = whole.ancestors().find(|folder| folder.exists());
        let free_bytes = existing.and_then(|folder| fs4::available_space(folder).ok());
        let refused = match existing {
            None => Some("no part of the path exists".to_owned()),
            Some(folder) if !folder.is_dir() => Some(format!("{} is a file", folder.display())),
            // A file without a name, gone when it is closed: only writing tells whether one may.
            Some(folder) => tempfile::tempfile_in(folder).err().map(|error| error.to_string()),
        };
        Self { purpose, path: path.to_path_buf(), free_bytes, refused }
    }

    fn problem(&self) -> Option<String> {
        let (purpose, path) = (self.purpose, self.path.display());
        if let Some(reason) = &self.refused {
            return Some(format!("{purpose} {path} cannot be written to: {reason}"));
        }
        let free = self.free_bytes.filter(|&free| free < LITTLE_SPACE)?;
        Some(format!("{purpose} {path}: only {:.1} GB free on its disk", free as f64 / 1e9))
    }
}
