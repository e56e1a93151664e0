//! The devices of this machine, how they are opened by name, and their memory.

mod adapters;
mod faults;
mod limits;
mod memory;
mod read_back;
mod several;
#[cfg(test)]
mod testing;

use burn::backend::{CubeDevice, DispatchDevice};
use burn::tensor::Device;
use burn::tensor::wgpu::wgpu;
use serde::{Deserialize, Serialize};

use crate::units::plural;
use adapters::{Adapter, adapters};

pub(crate) use adapters::{AdapterTraits, adapter_traits, api_of};
pub(crate) use faults::{MemoryWatch, in_one_line};
#[cfg(test)]
pub(crate) use faults::{simulate_failure, simulate_out_of_memory};
pub(crate) use memory::main_memory;
pub(crate) use read_back::read_back;
pub use several::open_all;
pub(crate) use several::{open_share, unknown_name};
#[cfg(test)]
pub(crate) use testing::unshared;

/// Why a device could not be opened. The message begins with the requested name.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name has none of the known forms.
    #[error("{0}: {why}", why = why_unknown(.0))]
    Unknown(String),
    /// The list of devices is malformed.
    #[error("{list}: {reason}")]
    List {
        /// The list as requested.
        list: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A valid name of a device that this machine or this build does not have.
    #[error("{name}: {reason}")]
    Absent {
        /// The requested name.
        name: String,
        /// What is missing.
        reason: String,
    },
    /// The driver refused to open the device.
    #[error("{name}: the driver refused the device: {reason}")]
    Driver {
        /// The requested name.
        name: String,
        /// The driver's message.
        reason: String,
    },
}

/// A device that this binary can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Name under which [`open`] finds it.
    pub id: String,
    /// Name of the hardware.
    pub name: String,
    /// vulkan, metal, dx12, gl, cuda, or cpu for Burn's own CPU backend.
    pub api: String,
    /// discrete, integrated, virtual, software, other, or cpu.
    pub kind: String,
    /// Driver and version, if known.
    pub driver: String,
    /// Largest buffer that a kernel can bind, bytes; absent where only memory limits it.
    pub max_binding_bytes: Option<u64>,
    /// Largest workgroup, invocations.
    pub max_workgroup: Option<u32>,
    /// Size of its memory in bytes, if known.
    pub memory_bytes: Option<u64>,
    /// Free memory in bytes, if known; all of a discrete card's memory counts as free.
    pub free_bytes: Option<u64>,
    /// Optional shader features.
    pub features: ShaderFeatures,
    /// Whether `auto` selects this device.
    pub auto: bool,
}

impl DeviceInfo {
    /// Returns the matrix units that our kernels can use for f16, as "16×16 f16".
    pub fn matrix_units(&self) -> Option<String> {
        let has = |size: &u32| {
            let unit = format!("{size}×{size}×{size} f16→f32");
            self.features.f16 && self.features.matrix_units.contains(&unit)
        };
        [16, 8].into_iter().find(has).map(|size| format!("{size}×{size} f16"))
    }

    /// Returns how our kernels store activations in half precision on this device: `native` where
    /// shaders have f16, `packed` in pairs where they do not; `no` if we have no kernels for it.
    pub(crate) fn half_storage(&self) -> &'static str {
        match (self.api.as_str(), self.features.f16) {
            ("cpu" | "cuda", _) => "no",
            (_, true) => "native",
            (_, false) => "packed",
        }
    }
}

/// Vendor of a device, as far as the choice of kernels depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Apple.
    Apple,
    /// Intel.
    Intel,
    /// Everyone else, software rasterisers included.
    #[default]
    Unknown,
}

impl Vendor {
    /// All vendors.
    pub(crate) const ALL: [Self; 5] =
        [Self::Nvidia, Self::Amd, Self::Apple, Self::Intel, Self::Unknown];
}

/// Optional features of a device's shaders; all absent for devices without shaders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShaderFeatures {
    /// 16-bit float arithmetic.
    pub f16: bool,
    /// Smallest and largest subgroup size, where subgroup operations are available.
    pub subgroups: Option<[u32; 2]>,
    /// Matrix products that its matrix units compute, as "16×16×16 f16→f32" (M×N×K, operand type →
    /// accumulator type).
    pub matrix_units: Vec<String>,
}

/// A device opened for training.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Burn's handle, without automatic differentiation.
    pub device: Device,
    /// Description of the device.
    pub info: DeviceInfo,
    /// Note for the user, one line, if the choice needs an explanation.
    pub note: Option<String>,
}

/// Returns the underlying device if it is one of CubeCL's.
pub(crate) fn cube_device(device: &Device) -> Option<CubeDevice> {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => Some(device.clone()),
        _ => None,
    }
}

/// Returns why a name is unknown, and what to use instead.
fn why_unknown(name: &str) -> &'static str {
    match name {
        "mps" => "unknown device; PyTorch's mps is metal here",
        _ => {
            "unknown device; use auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]; for training also all, or several with commas"
        }
    }
}

/// Whether a name has one of the known forms. This machine may still not have such a device.
fn is_known(name: &str) -> bool {
    let is_number = |text: &str| text.parse::<usize>().is_ok();
    match name.split_once(':') {
        None => {
            let names = ["auto", "gpu", "cpu", "wgpu", "vulkan", "metal", "dx12", "cuda"];
            names.contains(&name)
        }
        Some(("wgpu", index)) => index == "cpu" || is_number(index),
        Some(("cuda", index)) => is_number(index),
        Some(_) => false,
    }
}

fn cpu_info(auto: bool) -> DeviceInfo {
    // Threads of the pool that runs all CPU kernels: one for each core that the process may use,
    // unless RAYON_NUM_THREADS says otherwise.
    let threads = rayon::current_num_threads();
    let memory = memory::main_memory();
    DeviceInfo {
        id: "cpu".to_owned(),
        name: format!("CPU, {}", plural(threads, "thread")),
        api: "cpu".to_owned(),
        kind: "cpu".to_owned(),
        driver: "Burn flex".to_owned(),
        max_binding_bytes: None,
        max_workgroup: None,
        memory_bytes: Some(memory.total),
        free_bytes: Some(memory.free),
        features: ShaderFeatures::default(),
        auto,
    }
}

/// Returns the CUDA devices if the build has the feature `cuda`, otherwise none.
fn cuda_devices() -> Vec<(DeviceInfo, Device)> {
    #[cfg(feature = "cuda")]
    {
        use burn::tensor::DeviceType;
        // Without a driver the enumeration may panic inside Burn; then there is no device.
        let found = std::panic::catch_unwind(|| Device::enumerate(DeviceType::Cuda).into_vec());
        let info = |index: usize, device: &Device| DeviceInfo {
            id: format!("cuda:{index}"),
            name: device.identity().map_or_else(|| "NVIDIA GPU".to_owned(), |who| who.name),
            api: "cuda".to_owned(),
            kind: "discrete".to_owned(),
            driver: "CUDA".to_owned(),
            max_binding_bytes: None,
            max_workgroup: None,
            memory_bytes: None,
            free_bytes: None,
            features: ShaderFeatures::default(),
            auto: false,
        };
        let found = found.unwrap_or_default();
        found.into_iter().enumerate().map(|(index, d)| (info(index, &d), d)).collect()
    }
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

/// Returns every device that this binary can use; the one that `auto` selects is marked.
pub fn list() -> Vec<DeviceInfo> {
    let adapters = adapters();
    let gpu = adapters.iter().position(|a| a.rank().is_some());
    let mut devices: Vec<DeviceInfo> = adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| adapter.describe(adapter_id(&adapters, index), gpu == Some(index)))
        .collect();
    devices.extend(cuda_devices().into_iter().map(|(info, _)| info));
    devices.push(cpu_info(gpu.is_none()));
    devices
}

/// Returns `wgpu:N`, or `wgpu:cpu` for the first software rasteriser.
fn adapter_id(adapters: &[Adapter], index: usize) -> String {
    if adapters.iter().position(Adapter::is_software) == Some(index) {
        "wgpu:cpu".to_owned()
    } else {
        format!("wgpu:{index}")
    }
}

/// Opens the device named `name`: `auto`, `gpu`, `cpu`, `wgpu`, `wgpu:N`, `wgpu:cpu`, `vulkan`,
/// `metal`, `dx12`, `cuda`, `cuda:N`.
///
/// # Errors
/// [`DeviceError`].
pub fn open(name: &str) -> Result<Compute, DeviceError> {
    open_copy(name, 0)
}

/// Like [`open`]; each `copy` from 1 on is a further device on the same hardware.
fn open_copy(name: &str, copy: usize) -> Result<Compute, DeviceError> {
    let (family, index) = match name.split_once(':') {
        Some((family, index)) => (family, Some(index)),
        None => (name, None),
    };
    let absent = |reason: String| DeviceError::Absent { name: name.to_owned(), reason };
    let unknown = || DeviceError::Unknown(name.to_owned());
    match (family, index) {
        ("cpu", None) => Ok(open_cpu(None)),
        ("auto", None) => match open_best(name, copy, |_| true) {
            Err(DeviceError::Absent { reason, .. }) => {
                Ok(open_cpu(Some(format!("{reason}: using the CPU"))))
            }
            other => other,
        },
        ("gpu" | "wgpu", None) => open_best(name, copy, |_| true),
        ("vulkan", None) => open_best(name, copy, |b| b == wgpu::Backend::Vulkan),
        ("metal", None) => open_best(name, copy, |b| b == wgpu::Backend::Metal),
        ("dx12", None) => open_best(name, copy, |b| b == wgpu::Backend::Dx12),
        ("wgpu", Some(which)) => {
            let adapters = adapters();
            let index = match which {
                "cpu" => adapters.iter().position(Adapter::is_software),
                number => Some(number.parse::<usize>().map_err(|_| unknown())?),
            };
            let found = index.and_then(|index| Some((index, adapters.get(index)?)));
            let (index, adapter) = found
                .ok_or_else(|| absent(format!("no such adapter, {} found", adapters.len())))?;
            Ok(Compute {
                device: adapter.open(name, copy)?,
                info: adapter.describe(adapter_id(&adapters, index), false),
                note: None,
            })
        }
        ("cuda", which) => {
            if !cfg!(feature = "cuda") {
                return Err(absent("this binary was built without the feature `cuda`".to_owned()));
            }
            let index: usize = which.unwrap_or("0").parse().map_err(|_| unknown())?;
            let mut devices = cuda_devices();
            if index >= devices.len() {
                return Err(absent(format!("no such CUDA device, {} found", devices.len())));
            }
            if copy > 0 {
                return Err(absent("a CUDA device can be used only once".to_owned()));
            }
            let (info, device) = devices.swap_remove(index);
            Ok(Compute { device, info, note: None })
        }
        _ => Err(unknown()),
    }
}

fn open_cpu(note: Option<String>) -> Compute {
    Compute { device: Device::flex(), info: cpu_info(false), note }
}

/// Opens the best hardware GPU behind one of the wanted APIs.
fn open_best(
    name: &str,
    copy: usize,
    wanted: impl Fn(wgpu::Backend) -> bool,
) -> Result<Compute, DeviceError> {
    let adapters = adapters();
    let found =
        adapters.iter().enumerate().find(|(_, a)| a.rank().is_some() && wanted(a.info.backend));
    match found {
        Some((index, adapter)) => Ok(Compute {
            device: adapter.open(name, copy)?,
            info: adapter.describe(adapter_id(&adapters, index), true),
            note: None,
        }),
        None => {
            let software = adapters.iter().any(|a| a.is_software() && wanted(a.info.backend));
            let reason = if software {
                "no GPU found (a software rasteriser is selected only by wgpu:cpu)"
            } else {
                "no GPU found"
            };
            Err(DeviceError::Absent { name: name.to_owned(), reason: reason.to_owned() })
        }
    }
}
