//! Diagnostics of this machine for bug reports: everything that determines whether and how polyview
//! runs on it.
//!
//! [`Report::collect`] touches no driver, [`Report::add_devices`] adds the devices found, and
//! [`SelfTest::run`] computes something on one of them. A faulty driver may crash or block the
//! process that uses it, so `polyview doctor` lists and tests devices in separate processes.

mod folder;
pub(crate) mod process;
mod programs;
mod self_test;
mod system;
mod vulkan;

use serde::Serialize;

use crate::device::DeviceInfo;

pub(crate) use folder::Folder;
pub(crate) use programs::Ffmpeg;
pub(crate) use self_test::SelfTest;
pub(crate) use system::{Build, Machine};
pub(crate) use vulkan::Vulkan;

/// A diagnostic report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// How the program was built.
    pub build: Build,
    /// The machine that it runs on.
    pub machine: Machine,
    /// The Vulkan loader and drivers; only on systems where GPUs are used through them.
    pub vulkan: Option<Vulkan>,
    /// The ffmpeg program, which decodes what is not decoded in process.
    pub ffmpeg: Ffmpeg,
    /// Folders that a run writes to.
    pub folders: Vec<Folder>,
    /// Every device.
    pub devices: Vec<DeviceInfo>,
    /// Problems that may keep a run from working, each with what to do about it.
    pub problems: Vec<String>,
}

impl Report {
    /// Collects everything except for the devices.
    pub(crate) fn collect(folders: Vec<Folder>) -> Self {
        let machine = Machine::inspect();
        let ffmpeg = Ffmpeg::inspect();
        let mut problems: Vec<String> = ffmpeg.problem(&machine).into_iter().collect();
        problems.extend(folders.iter().filter_map(Folder::problem));
        let (build, vulkan, devices) = (Build::this(), Vulkan::inspect(), Vec::new());
        Self { build, machine, vulkan, ffmpeg, folders, devices, problems }
    }

    /// Adds the devices found, or the reason why they cannot be listed.
    pub(crate) fn add_devices(&mut self, found: Result<Vec<DeviceInfo>, String>) {
        match found {
            Ok(devices) => self.devices = devices,
            Err(reason) => self.problems.push(format!(
                "the devices cannot be listed: {reason}; VK_DRIVER_FILES selects the Vulkan drivers"
            )),
        }
        if let Some(vulkan) = &self.vulkan {
            self.problems.extend(vulkan.problems(&self.machine, &self.devices));
        }
    }
}
