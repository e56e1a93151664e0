//! Which devices this machine has, which one a run takes, and what it can hold.

mod faults;
mod memory;

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};
use serde::Serialize;

pub use faults::out_of_memory;
#[cfg(test)]
pub(crate) use faults::pretend;
pub use memory::{Memory, main_memory};

/// Why a device could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name is none of the known forms.
    #[error(
        "--device {0}: unknown; use auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]"
    )]
    Unknown(String),
    /// A known form that this machine cannot serve.
    #[error("--device {name}: {reason}; `polyview devices` lists what there is")]
    Absent {
        /// As asked for.
        name: String,
        /// What is lacking.
        reason: String,
    },
    /// The driver refused.
    #[error("--device {name}: the driver refused it: {reason}")]
    Driver {
        /// As asked for.
        name: String,
        /// The driver's words.
        reason: String,
    },
}

/// A device that this binary can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// What `--device` takes.
    pub id: String,
    /// The hardware's name.
    pub name: String,
    /// vulkan, metal, dx12, gl, cuda, or cpu for Burn's own CPU backend.
    pub api: String,
    /// discrete, integrated, virtual, software, other, or cpu.
    pub kind: String,
    /// Driver and version, where known.
    pub driver: String,
    /// Largest buffer that one kernel can see, bytes; absent where only memory bounds it.
    pub max_binding_bytes: Option<u64>,
    /// Largest workgroup, invocations.
    pub max_workgroup: Option<u32>,
    /// Bytes of its memory, where known.
    pub memory_bytes: Option<u64>,
    /// Bytes of that which nobody uses at the moment, where known; a card's is taken as all free.
    pub free_bytes: Option<u64>,
    /// What its shaders may use.
    pub features: ShaderFeatures,
    /// Whether `auto` takes this one.
    pub auto: bool,
}

/// What shaders on a device may use beside the basics; all absent for devices without shaders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ShaderFeatures {
    /// Arithmetic on 16-bit floats.
    pub f16: bool,
    /// Smallest and largest subgroup, where shaders may use subgroup operations.
    pub subgroups: Option<[u32; 2]>,
    /// Products that its matrix units compute, as "16×16×16 f16→f32" (M×N×K, operands → sums).
    pub matrix_units: Vec<String>,
}

/// A device opened for training.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Burn's handle, without automatic differentiation.
    pub device: Device,
    /// What it is.
    pub info: DeviceInfo,
    /// One line for the user when the choice needs a word.
    pub note: Option<String>,
}

struct Adapter {
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    features: wgpu::Features,
    matrix_units: Vec<wgpu::CooperativeMatrixProperties>,
    memory: Option<Memory>,
    /// Position among the adapters of the same kind and API, as Burn counts.
    index: usize,
}

impl Adapter {
    fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// Preference of `auto`: smaller is better, `None` is never taken unasked.
    fn rank(&self) -> Option<u8> {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => Some(0),
            wgpu::DeviceType::IntegratedGpu => Some(1),
            wgpu::DeviceType::VirtualGpu => Some(2),
            wgpu::DeviceType::Other => Some(3),
            wgpu::DeviceType::Cpu => None,
        }
    }

    fn describe(&self, id: String, auto: bool) -> DeviceInfo {
        let kind = match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        };
        DeviceInfo {
            id,
            name: self.info.name.clone(),
            api: self.info.backend.to_string(),
            kind: kind.to_owned(),
            driver: format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned(),
            max_binding_bytes: Some(self.limits.max_storage_buffer_binding_size),
            max_workgroup: Some(self.limits.max_compute_invocations_per_workgroup),
            memory_bytes: self.memory.map(|memory| memory.total),
            free_bytes: self.memory.map(|memory| memory.free),
            features: self.shader_features(),
            auto,
        }
    }

    fn shader_features(&self) -> ShaderFeatures {
        let has = |feature| self.features.contains(feature);
        let subgroups = [self.info.subgroup_min_size, self.info.subgroup_max_size];
        let mut matrix_units: Vec<String> = self.matrix_units.iter().map(product).collect();
        // Drivers list one shape once per combination of what does not matter here.
        matrix_units.sort();
        matrix_units.dedup();
        ShaderFeatures {
            f16: has(wgpu::Features::SHADER_F16),
            subgroups: has(wgpu::Features::SUBGROUP).then_some(subgroups),
            matrix_units,
        }
    }

    fn open(&self, name: &str) -> Result<Device, DeviceError> {
        let kind = match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(self.index),
            wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(self.index),
            wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(self.index),
            wgpu::DeviceType::Cpu => DeviceKind::Cpu,
            wgpu::DeviceType::Other => DeviceKind::DefaultDevice,
        };
        open_once(kind, self.api())
            .map_err(|reason| DeviceError::Driver { name: name.to_owned(), reason })
    }

    /// The API that it is reached by, as Burn names it.
    fn api(&self) -> WgpuBackend {
        match self.info.backend {
            wgpu::Backend::Vulkan => WgpuBackend::Vulkan,
            wgpu::Backend::Metal => WgpuBackend::Metal,
            wgpu::Backend::Dx12 => WgpuBackend::Dx12,
            wgpu::Backend::Gl => WgpuBackend::Gl,
            _ => WgpuBackend::Auto,
        }
    }
}

/// A matrix unit's product in words.
fn product(unit: &wgpu::CooperativeMatrixProperties) -> String {
    let name = |kind| match kind {
        wgpu::CooperativeScalarType::F32 => "f32",
        wgpu::CooperativeScalarType::F16 => "f16",
        wgpu::CooperativeScalarType::I32 => "i32",
        wgpu::CooperativeScalarType::U32 => "u32",
    };
    let (operands, sums) = (name(unit.ab_type), name(unit.cr_type));
    format!("{}×{}×{} {operands}→{sums}", unit.m_size, unit.n_size, unit.k_size)
}

/// Burn registers a runtime per adapter once per process; asking again must give the same one.
fn open_once(kind: DeviceKind, api: WgpuBackend) -> Result<Device, String> {
    use std::sync::Mutex;
    static OPEN: Mutex<Vec<(DeviceKind, WgpuBackend, Device)>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((.., device)) = open.iter().find(|(k, a, _)| *k == kind && *a == api) {
        return Ok(device.clone());
    }
    let (device, setup) = Device::wgpu_options()
        .device_kind(kind.clone())
        .graphics_api(api)
        .init_with_setup()
        .map_err(|error| error.to_string())?;
    faults::watch(&device, &setup.device);
    open.push((kind, api, device.clone()));
    Ok(device)
}

/// All wgpu adapters, in the order in which `wgpu:N` counts them. Metal comes before Vulkan, which on
/// a Mac is a layer over Metal (MoltenVK). OpenGL, the last resort, is asked only where no other API
/// has anything: it would show the same hardware once more.
fn adapters() -> Vec<Adapter> {
    let mut found: Vec<Adapter> = Vec::new();
    let apis =
        [wgpu::Backends::METAL, wgpu::Backends::VULKAN, wgpu::Backends::DX12, wgpu::Backends::GL];
    for api in apis {
        if api == wgpu::Backends::GL && !found.is_empty() {
            break;
        }
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: api,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let mut counts = std::collections::HashMap::new();
        for adapter in pollster::block_on(instance.enumerate_adapters(api)) {
            let info = adapter.get_info();
            let count = counts.entry(info.device_type).or_insert(0_usize);
            let index = *count;
            *count += 1;
            let (limits, features) = (adapter.limits(), adapter.features());
            let matrix_units = adapter.cooperative_matrix_properties();
            let memory = memory::of_adapter(&adapter);
            found.push(Adapter { info, limits, features, matrix_units, memory, index });
        }
    }
    // Stable: real GPUs first, software rasterisers last.
    found.sort_by_key(|adapter| adapter.rank().unwrap_or(u8::MAX));
    found
}

/// What Burn does not tell of the adapter behind a device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AdapterTraits {
    /// Shaders run on the CPU.
    pub software: bool,
    /// Shaders may use subgroup operations. (Burn withholds them on software adapters.)
    pub subgroups: bool,
    /// Shaders go through FXC, Direct3D 12's old compiler.
    pub fxc: bool,
}

/// The traits of the adapter of this name behind this API, for one card has the same name behind
/// each, or behind any where the API was left to Burn; of several adapters, what holds for all.
pub(crate) fn adapter_traits(name: &str, api: WgpuBackend) -> AdapterTraits {
    let traits = |adapter: &Adapter| {
        let subgroups = adapter.features.contains(wgpu::Features::SUBGROUP);
        // wgpu does not tell the compiler. The newer one, DXC, comes with subgroup operations on
        // all but the oldest cards, FXC never.
        let fxc = adapter.info.backend == wgpu::Backend::Dx12 && !subgroups;
        AdapterTraits { software: adapter.is_software(), subgroups, fxc }
    };
    let both = |a: AdapterTraits, b: AdapterTraits| AdapterTraits {
        software: a.software && b.software,
        subgroups: a.subgroups && b.subgroups,
        fxc: a.fxc || b.fxc,
    };
    let meant = |adapter: &Adapter| {
        adapter.info.name == name && (api == WgpuBackend::Auto || api == adapter.api())
    };
    adapters().iter().filter(|a| meant(a)).map(traits).reduce(both).unwrap_or_default()
}

fn cpu_info(auto: bool) -> DeviceInfo {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory::main_memory();
    DeviceInfo {
        id: "cpu".to_owned(),
        name: format!("CPU, {threads} thread{}", if threads == 1 { "" } else { "s" }),
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

/// The CUDA devices of a build with the feature `cuda`; none otherwise.
fn cuda_devices() -> Vec<(DeviceInfo, Device)> {
    #[cfg(feature = "cuda")]
    {
        use burn::tensor::DeviceType;
        // Without a driver the enumeration may panic inside Burn; that means "none".
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

/// Every device that this binary can use; the one that `auto` takes is marked.
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

/// `wgpu:N`, or `wgpu:cpu` for the first software rasteriser.
fn adapter_id(adapters: &[Adapter], index: usize) -> String {
    if adapters.iter().position(Adapter::is_software) == Some(index) {
        "wgpu:cpu".to_owned()
    } else {
        format!("wgpu:{index}")
    }
}

/// Opens the device that `name` asks for: `auto`, `gpu`, `cpu`, `wgpu`, `wgpu:N`, `wgpu:cpu`,
/// `vulkan`, `metal`, `dx12`, `cuda`, `cuda:N`.
pub fn open(name: &str) -> Result<Compute, DeviceError> {
    let (family, index) = match name.split_once(':') {
        Some((family, index)) => (family, Some(index)),
        None => (name, None),
    };
    let absent = |reason: String| DeviceError::Absent { name: name.to_owned(), reason };
    let unknown = || DeviceError::Unknown(name.to_owned());
    match (family, index) {
        ("cpu", None) => Ok(open_cpu(None)),
        ("auto", None) => match open_best(name, |_| true) {
            Err(DeviceError::Absent { reason, .. }) => {
                Ok(open_cpu(Some(format!("{reason}: training on the CPU"))))
            }
            other => other,
        },
        ("gpu" | "wgpu", None) => open_best(name, |_| true),
        ("vulkan", None) => open_best(name, |b| b == wgpu::Backend::Vulkan),
        ("metal", None) => open_best(name, |b| b == wgpu::Backend::Metal),
        ("dx12", None) => open_best(name, |b| b == wgpu::Backend::Dx12),
        ("wgpu", Some(which)) => {
            let adapters = adapters();
            let index = match which {
                "cpu" => adapters.iter().position(Adapter::is_software),
                number => Some(number.parse::<usize>().map_err(|_| unknown())?),
            };
            let found = index.and_then(|index| Some((index, adapters.get(index)?)));
            let (index, adapter) = found.ok_or_else(|| {
                absent(format!("there is no such adapter among {}", adapters.len()))
            })?;
            Ok(Compute {
                device: adapter.open(name)?,
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
                return Err(absent(format!("CUDA shows {} devices", devices.len())));
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

/// The best real GPU behind one of the APIs wanted.
fn open_best(name: &str, wanted: impl Fn(wgpu::Backend) -> bool) -> Result<Compute, DeviceError> {
    let adapters = adapters();
    let found =
        adapters.iter().enumerate().find(|(_, a)| a.rank().is_some() && wanted(a.info.backend));
    match found {
        Some((index, adapter)) => Ok(Compute {
            device: adapter.open(name)?,
            info: adapter.describe(adapter_id(&adapters, index), true),
            note: None,
        }),
        None => {
            let software = adapters.iter().any(|a| a.is_software() && wanted(a.info.backend));
            let reason = if software {
                "no GPU found (a software rasteriser is taken only as wgpu:cpu)"
            } else {
                "no GPU found"
            };
            Err(DeviceError::Absent { name: name.to_owned(), reason: reason.to_owned() })
        }
    }
}
