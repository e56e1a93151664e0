//! The Vulkan loader and the drivers that it can find (the folders are those of Khronos' "Driver
//! interface to the Vulkan Loader").

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Machine;
use crate::device::DeviceInfo;

/// The Vulkan installation on Linux and Windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Vulkan {
    /// Whether the loader can be opened.
    pub loader: bool,
    /// Names of the drivers' manifests, where their folders are known (Linux).
    pub drivers: Vec<String>,
    /// The environment variable that selects them, if one is set.
    pub chosen_by: Option<&'static str>,
    /// Device nodes under /dev that this user may not open.
    pub forbidden: Vec<String>,
    /// Whether NVIDIA's kernel driver is loaded.
    pub nvidia: bool,
}

/// The loader's library.
#[cfg(windows)]
const LOADER: Option<&str> = Some("vulkan-1.dll");
#[cfg(all(unix, not(target_vendor = "apple")))]
const LOADER: Option<&str> = Some("libvulkan.so.1");
#[cfg(not(any(windows, all(unix, not(target_vendor = "apple")))))]
const LOADER: Option<&str> = None;

impl Vulkan {
    /// Inspects the installation; `None` on systems without such a loader (macOS).
    pub(super) fn inspect() -> Option<Self> {
        let loader = can_open(LOADER?);
        let variables = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
        let chosen_by = variables.into_iter().find(|name| std::env::var_os(name).is_some());
        let nvidia = Path::new("/proc/driver/nvidia/version").exists();
        Some(Self {
            loader,
            drivers: drivers(chosen_by),
            chosen_by,
            forbidden: forbidden(),
            nvidia,
        })
    }

    pub(super) fn problems(&self, machine: &Machine, devices: &[DeviceInfo]) -> Vec<String> {
        if cfg!(windows) {
            // DX12 is available there.
            return Vec::new();
        }
        if !self.loader {
            let install = machine.install([
                "libvulkan1 mesa-vulkan-drivers",
                "vulkan-loader mesa-vulkan-drivers",
                "vulkan-icd-loader",
                "libvulkan1",
                "vulkan-loader",
            ]);
            return vec![format!("no Vulkan loader, so no GPU can be used{install}")];
        }
        let gpu = devices.iter().any(|device| !matches!(&*device.kind, "cpu" | "software"));
        if gpu {
            return Vec::new();
        }
        let mut problems = Vec::new();
        let nvidia_driver = self.drivers.iter().any(|name| name.starts_with("nvidia"));
        if let (Some(variable), []) = (self.chosen_by, self.drivers.as_slice()) {
            problems.push(format!("no Vulkan driver: no file named by {variable} exists"));
        } else if self.nvidia && !nvidia_driver && self.chosen_by.is_none() {
            problems.push(match machine.container.is_some() {
                true => "there is an NVIDIA card, but its Vulkan driver is not in this container: \
                         start it with NVIDIA_DRIVER_CAPABILITIES=all"
                    .to_owned(),
                false => "there is an NVIDIA card without its Vulkan driver: install the driver's \
                          graphics part too (libnvidia-gl)"
                    .to_owned(),
            });
        } else if self.drivers.is_empty() {
            let install = machine.install([
                "mesa-vulkan-drivers",
                "mesa-vulkan-drivers",
                "vulkan-radeon vulkan-intel",
                "libvulkan_radeon libvulkan_intel",
                "mesa-vulkan-ati mesa-vulkan-intel",
            ]);
            problems.push(format!("no Vulkan driver, so no GPU can be used (AMD, Intel){install}"));
        } else if nvidia_driver && !devices.iter().any(|device| device.api == "vulkan") {
            let install = machine.install([
                "libegl1 libgl1 libxcb1",
                "libglvnd-egl libglvnd-glx libxcb",
                "libglvnd libxcb",
                "libglvnd libxcb1",
                "libglvnd libxcb",
            ]);
            problems.push(format!(
                "NVIDIA's Vulkan driver is installed but does not start, perhaps because the \
                 libraries of GLVND and X11 are missing{install}"
            ));
        } else if !devices.iter().any(|device| device.api == "vulkan") {
            problems.push(
                "Vulkan drivers are installed, but none of them works: `vulkaninfo` shows details"
                    .to_owned(),
            );
        }
        if !self.forbidden.is_empty() {
            problems.push(format!(
                "this user may not open {}: add it to the group \"render\" and log in again",
                self.forbidden.join(", ")
            ));
        }
        problems
    }
}

#[cfg(any(windows, all(unix, not(target_vendor = "apple"))))]
#[allow(unsafe_code, reason = "opening a library runs its code; there is no safe way to check")]
fn can_open(library: &str) -> bool {
    // SAFETY: it is the system's Vulkan loader, which the GPU backend opens in every run too; none
    // of its symbols is used here.
    unsafe { libloading::Library::new(library) }.is_ok()
}

#[cfg(not(any(windows, all(unix, not(target_vendor = "apple")))))]
fn can_open(_: &str) -> bool {
    false
}

/// Returns the names of the drivers' manifests, without extension.
fn drivers(chosen_by: Option<&str>) -> Vec<String> {
    let mut found: Vec<PathBuf> = match chosen_by.and_then(std::env::var_os) {
        Some(files) => std::env::split_paths(&files).filter(|file| file.exists()).collect(),
        None => manifest_folders().iter().flat_map(|folder| manifests(folder)).collect(),
    };
    found.sort();
    let stem = |file: &PathBuf| file.file_stem().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = found.iter().filter_map(stem).collect();
    names.dedup();
    names
}

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect()
}

fn manifest_folders() -> Vec<PathBuf> {
    let shared = std::env::var_os("XDG_DATA_DIRS")
        .filter(|dirs| !dirs.is_empty())
        .unwrap_or_else(|| "/usr/local/share:/usr/share".into());
    let mut roots = vec![PathBuf::from("/etc"), PathBuf::from("/usr/local/etc")];
    roots.extend(dirs::data_local_dir());
    roots.extend(std::env::split_paths(&shared));
    roots.into_iter().map(|root| root.join("vulkan/icd.d")).collect()
}

/// Returns the render nodes that exist but that this user may not open.
fn forbidden() -> Vec<String> {
    let nodes = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    let render = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("renderD"))
    };
    let denied = |path: &PathBuf| {
        let open = std::fs::OpenOptions::new().read(true).write(true).open(path);
        open.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    let nodes = nodes.map(|node| node.path()).filter(render).filter(denied);
    nodes.map(|node| node.display().to_string()).collect()
}
