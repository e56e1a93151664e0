//! The adapters that wgpu finds, with properties that Burn does not expose.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use burn::backend::CubeDevice;
use burn::tensor::wgpu::{WgpuBackend, WgpuOptions, WgpuSetup, wgpu};
use burn::tensor::{Device, DeviceKind};

use super::limits::tasks_max;
use super::memory::{self, Memory};
use super::{DeviceError, DeviceInfo, ShaderFeatures, Vendor, cube_device, faults};

/// An adapter that wgpu found.
pub(super) struct Adapter {
    pub info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    features: wgpu::Features,
    matrix_units: Vec<wgpu::CooperativeMatrixProperties>,
    memory: Option<Memory>,
    /// Index among the adapters of the same kind and API, which is how Burn counts them.
    index: usize,
    instance: wgpu::Instance,
    handle: wgpu::Adapter,
}

impl Adapter {
    /// Whether the adapter computes on the CPU.
    pub(super) fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// Returns the adapter's vendor.
    fn vendor(&self) -> Vendor {
        // wgpu reports PCI vendor IDs, except on Metal, where only the name is known.
        match (self.info.vendor, self.info.name.split_whitespace().next()) {
            (0x10de, _) | (0, Some("NVIDIA")) => Vendor::Nvidia,
            (0x1002, _) | (0, Some("AMD")) => Vendor::Amd,
            (0x106b, _) | (0, Some("Apple")) => Vendor::Apple,
            (0x8086, _) | (0, Some("Intel" | "Intel(R)")) => Vendor::Intel,
            _ => Vendor::Unknown,
        }
    }

    /// Returns the size M = N = K of the largest product that its matrix units compute of f16 with
    /// sums in f32. In WGSL only square products exist, of size 8 or 16.
    fn matrix_size(&self) -> Option<u32> {
        use wgpu::CooperativeScalarType::{F16, F32};
        let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
        let has = |size: &u32| {
            let sizes = |unit: &wgpu::CooperativeMatrixProperties| {
                [unit.m_size, unit.n_size, unit.k_size] == [*size; 3]
                    && (unit.ab_type, unit.cr_type) == (F16, F32)
            };
            self.matrix_units.iter().any(sizes)
        };
        [16, 8].into_iter().filter(|_| self.features.contains(needed)).find(has)
    }

    /// Returns the rank for `auto`: smaller is better, `None` is never selected automatically.
    pub(super) fn rank(&self) -> Option<u8> {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => Some(0),
            wgpu::DeviceType::IntegratedGpu => Some(1),
            wgpu::DeviceType::VirtualGpu => Some(2),
            wgpu::DeviceType::Other => Some(3),
            wgpu::DeviceType::Cpu => None,
        }
    }

    /// Returns the kind of device.
    fn kind(&self) -> &'static str {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        }
    }

    /// Returns its public description.
    pub(super) fn describe(&self, id: String, auto: bool) -> DeviceInfo {
        DeviceInfo {
            id,
            name: self.info.name.clone(),
            api: self.info.backend.to_string(),
            kind: self.kind().to_owned(),
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
        // Drivers list a shape several times, for combinations of properties not shown here.
        matrix_units.sort();
        matrix_units.dedup();
        ShaderFeatures {
            f16: has(wgpu::Features::SHADER_F16),
            subgroups: has(wgpu::Features::SUBGROUP).then_some(subgroups),
            matrix_units,
        }
    }

    /// Returns Burn's handle; `name` is the requested name, for errors. Each `copy` from 1 on is a
    /// further device on the same adapter.
    pub(super) fn open(&self, name: &str, copy: usize) -> Result<Device, DeviceError> {
        open_once(self, copy)
            .map_err(|reason| DeviceError::Driver { name: name.to_owned(), reason })
    }

    /// Returns how Burn names the adapter; `None` if Burn would open a different one.
    fn burn_kind(&self) -> Option<DeviceKind> {
        match (self.info.device_type, self.index) {
            (wgpu::DeviceType::DiscreteGpu, index) => Some(DeviceKind::DiscreteGpu(index)),
            (wgpu::DeviceType::IntegratedGpu, index) => Some(DeviceKind::IntegratedGpu(index)),
            (wgpu::DeviceType::VirtualGpu, index) => Some(DeviceKind::VirtualGpu(index)),
            (wgpu::DeviceType::Cpu, 0) => Some(DeviceKind::Cpu),
            (wgpu::DeviceType::Cpu | wgpu::DeviceType::Other, _) => None,
        }
    }

    /// Returns its API in Burn's terms.
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

/// Formats a matrix unit's shape and types.
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

/// Locks the drivers, which only one thread at a time may load: not all of them tolerate several.
fn lock_drivers() -> MutexGuard<'static, ()> {
    static DRIVERS: Mutex<()> = Mutex::new(());
    DRIVERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Opens a device on an adapter. Burn registers a runtime once per process, so opening a device
/// again must return the same one.
fn open_once(adapter: &Adapter, copy: usize) -> Result<Device, String> {
    static OPEN: Mutex<Vec<Opened>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let _lock = lock_drivers();
    let (place, api) = ((adapter.info.device_type, adapter.index), adapter.api());
    let tasks_max = tasks_max(adapter.kind(), adapter.info.backend.to_str());
    let with_setup = |setup: WgpuSetup| {
        let device = options(tasks_max).setup(setup.clone()).init().map_err(|e| e.to_string())?;
        Ok::<_, String>((device, setup))
    };
    let watched = |(device, setup): (Device, WgpuSetup)| {
        faults::watch(&device, &setup.device);
        remember_api(&device, api);
        (device, setup)
    };
    let at = match open.iter().position(|opened| opened.place == place && opened.api == api) {
        Some(at) => at,
        None => {
            let first = match adapter.burn_kind() {
                Some(kind) => {
                    let options = options(tasks_max).device_kind(kind).graphics_api(api);
                    options.init_with_setup().map_err(|error| error.to_string())?
                }
                None => with_setup(setup(&adapter.instance, &adapter.handle)?)?,
            };
            let (device, setup) = watched(first);
            open.push(Opened { place, api, setup, devices: vec![device] });
            open.len() - 1
        }
    };
    let opened = &mut open[at];
    while opened.devices.len() <= copy {
        let setup = setup(&opened.setup.instance, &opened.setup.adapter)?;
        opened.devices.push(watched(with_setup(setup)?).0);
    }
    Ok(opened.devices[copy].clone())
}

fn options(tasks_max: Option<usize>) -> WgpuOptions {
    let options = Device::wgpu_options();
    match tasks_max {
        Some(most) => options.tasks_max(most),
        None => options,
    }
}

/// An adapter with the devices that were opened on it.
struct Opened {
    /// Kind of the adapter, and its index among adapters of that kind.
    place: (wgpu::DeviceType, usize),
    api: WgpuBackend,
    setup: WgpuSetup,
    devices: Vec<Device>,
}

/// API of each device that was opened. Burn does not record it for further devices on an adapter.
static APIS: Mutex<Vec<(Device, WgpuBackend)>> = Mutex::new(Vec::new());

fn remember_api(device: &Device, api: WgpuBackend) {
    APIS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((device.clone(), api));
}

/// Returns the API that a device was opened with; `None` for one that was not opened here.
pub(crate) fn api_of(device: &CubeDevice) -> Option<WgpuBackend> {
    let apis = APIS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let is_it = |known: &Device| cube_device(known).is_some_and(|known| known == *device);
    apis.iter().find(|(known, _)| is_it(known)).map(|&(_, api)| api)
}

/// Creates a device on an adapter, with the features and limits that Burn requests.
#[allow(unsafe_code, reason = "experimental features have no safe form")]
fn setup(instance: &wgpu::Instance, adapter: &wgpu::Adapter) -> Result<WgpuSetup, String> {
    let unwanted = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
    let request = adapter.request_device(&wgpu::DeviceDescriptor {
        label: None,
        required_features: adapter.features().difference(unwanted),
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        trace: wgpu::Trace::Off,
        // SAFETY: as for the devices that Burn opens; the one such feature in use, matrix units, is
        // tried before it is relied on.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
    });
    let (device, queue) = pollster::block_on(request).map_err(|error| error.to_string())?;
    let (instance, adapter) = (instance.clone(), adapter.clone());
    Ok(WgpuSetup { backend: adapter.get_info().backend, instance, adapter, device, queue })
}

/// Returns all wgpu adapters, in the order in which `wgpu:N` counts them. Metal comes before
/// Vulkan, which on a Mac is a layer over Metal (MoltenVK). OpenGL, the last resort, is queried
/// only if no other API has an adapter: it would list the same hardware again.
pub(super) fn adapters() -> Vec<Adapter> {
    let _lock = lock_drivers();
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
        let mut counts = HashMap::new();
        for adapter in pollster::block_on(instance.enumerate_adapters(api)) {
            let info = adapter.get_info();
            let count = counts.entry(info.device_type).or_insert(0_usize);
            let index = *count;
            *count += 1;
            let (limits, features) = (adapter.limits(), adapter.features());
            let matrix_units = adapter.cooperative_matrix_properties();
            let memory = memory::of_adapter(&adapter);
            found.push(Adapter {
                info,
                limits,
                features,
                matrix_units,
                memory,
                index,
                instance: instance.clone(),
                handle: adapter,
            });
        }
    }
    // A stable sort: hardware GPUs first, software rasterisers last.
    found.sort_by_key(|adapter| adapter.rank().unwrap_or(u8::MAX));
    found
}

/// Properties of a device's adapter that Burn does not expose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AdapterTraits {
    /// Whether shaders run on the CPU.
    pub software: bool,
    /// Whether shaders may use subgroup operations. (Burn withholds them on software adapters.)
    pub subgroups: bool,
    /// Whether shaders are compiled by FXC, Direct3D 12's old compiler.
    pub fxc: bool,
    /// Whether shaders are compiled by Metal.
    pub metal: bool,
    /// Vendor of the adapter.
    pub vendor: Vendor,
    /// Size M = N = K of the largest product of f16 with sums in f32 that its matrix units compute
    /// and WGSL can express.
    pub matrix_size: Option<u32>,
}

/// Returns the traits of the adapter with this name and API (a card has the same name under every
/// API), or under any API if the choice was left to Burn. If there are several such adapters,
/// returns what holds for all.
pub(crate) fn adapter_traits(name: &str, api: WgpuBackend) -> AdapterTraits {
    let traits = |adapter: &Adapter| {
        let subgroups = adapter.features.contains(wgpu::Features::SUBGROUP);
        // wgpu does not expose the compiler. The newer one, DXC, has subgroup operations on all but
        // the oldest cards; FXC never does.
        let fxc = adapter.info.backend == wgpu::Backend::Dx12 && !subgroups;
        AdapterTraits {
            software: adapter.is_software(),
            subgroups,
            fxc,
            metal: adapter.info.backend == wgpu::Backend::Metal,
            vendor: adapter.vendor(),
            matrix_size: adapter.matrix_size(),
        }
    };
    let both = |a: AdapterTraits, b: AdapterTraits| AdapterTraits {
        software: a.software && b.software,
        subgroups: a.subgroups && b.subgroups,
        fxc: a.fxc || b.fxc,
        metal: a.metal || b.metal,
        vendor: if a.vendor == b.vendor { a.vendor } else { Vendor::Unknown },
        matrix_size: a.matrix_size.filter(|_| a.matrix_size == b.matrix_size),
    };
    let matches = |adapter: &Adapter| {
        adapter.info.name == name && (api == WgpuBackend::Auto || api == adapter.api())
    };
    // An adapter that is no longer listed gets the conservative defaults.
    adapters().iter().filter(|a| matches(a)).map(traits).reduce(both).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::device;

    #[test]
    fn a_further_device_on_an_adapter_has_its_api() {
        let Some(device) = device::unshared() else { return };
        let of = |device: &Device| api_of(&cube_device(device).unwrap());
        let first = device::open("wgpu:cpu").unwrap().device;
        assert!(of(&device).is_some_and(|api| api != WgpuBackend::Auto));
        assert_eq!(of(&device), of(&first));
    }

    #[test]
    fn an_adapter_that_burn_cannot_name_is_opened_directly() {
        let Some(software) = adapters().into_iter().find(Adapter::is_software) else { return };
        assert_eq!(software.burn_kind(), (software.index == 0).then_some(DeviceKind::Cpu));
        // Another software adapter, as far as Burn knows.
        let second = Adapter { index: software.index + 100, ..software };
        assert_eq!(second.burn_kind(), None);
        let opened = second.open("wgpu:7", 0).unwrap();
        assert_eq!(second.open("wgpu:7", 0).unwrap(), opened);
        assert_ne!(second.open("wgpu:7", 1).unwrap(), opened);
        assert_eq!(opened.identity().unwrap().name, second.info.name);
        opened.sync().unwrap();
    }
}
