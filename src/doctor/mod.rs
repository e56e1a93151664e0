//! Everything about this machine that decides whether and how polyview runs on it, for a bug report.
//!
//! [`Report::look`] touches no driver, [`Report::add_devices`] takes what was found of the devices,
//! and [`SelfTest::run`] computes something on one. A faulty driver may end or block the process that
//! asks it, so `polyview doctor` does the last two in processes of their own.

mod folder;
pub(crate) mod process;
mod programs;
mod self_test;
mod system;
mod vulkan;

use serde::Serialize;

use crate::device::DeviceInfo;

pub use folder::Folder;
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

impl Report {
    /// Looks at everything but the devices.
    pub fn look(folders: Vec<Folder>) -> Self {
        let machine = Machine::look();
        let ffmpeg = Ffmpeg::look();
        let mut problems: Vec<String> = ffmpeg.problem(&machine).into_iter().collect();
        problems.extend(folders.iter().filter_map(Folder::problem));
        let (build, vulkan, devices) = (Build::this(), Vulkan::look(), Vec::new());
        Self { build, machine, vulkan, ffmpeg, folders, devices, problems }
    }

    /// Takes the devices that were found, or why there are none.
    pub fn add_devices(&mut self, found: Result<Vec<DeviceInfo>, String>) {
        match found {
            Ok(devices) => self.devices = devices,
            Err(reason) => self.problems.push(format!(
                "the devices cannot be listed: {reason}; VK_DRIVER_FILES chooses among Vulkan drivers"
            )),
        }
        if let Some(vulkan) = &self.vulkan {
            self.problems.extend(vulkan.problems(&self.machine, &self.devices));
        }
    }
}
