//! A Vulkan driver's compiler accepts the shaders. Nothing is executed, so a device that computes
//! nothing is enough: Mesa's drivers compile for cards that are not present.
//!
//!     LD_PRELOAD=libamdgpu_noop_drm_shim.so AMDGPU_GPU_ID=navi31 \
//!         POLYVIEW_COMPILE_SHADERS=conv_gather cargo test --test it driver -- --nocapture
//!
//! prints the statistics of AMD's open driver for each text whose name contains `conv_gather`:
//! registers, spills, occupancy. `libnouveau_noop_drm_shim.so` with `NOUVEAU_CHIPSET=0x172` and
//! `NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1` does so for NVIDIA cards, `libasahi_noop_drm_shim.so` for
//! Apple's. Debian has all three in `mesa-drm-shim`; `VK_DRIVER_FILES` selects the driver.
#![allow(unsafe_code, reason = "Vulkan")]

use std::collections::BTreeSet;
use std::ffi::CStr;

use ash::{khr, vk};
use polyview::kernels::web::{uses_f16, uses_matrix_units};

use super::backends::spirv;
use super::modules;
use crate::common::skip;

/// Environment variable with a part of the names of the texts to compile; if it is not set, one text of
/// each file is compiled.
const NAMES: &str = "POLYVIEW_COMPILE_SHADERS";

/// An open Vulkan device, and the features that matter to the texts.
struct Driver {
    /// The loader's library, which must stay loaded.
    _entry: ash::Entry,
    instance: ash::Instance,
    device: ash::Device,
    statistics: Option<khr::pipeline_executable_properties::Device>,
    name: String,
    /// Sizes of its f16 matrices.
    matrices: BTreeSet<u32>,
    has_f16: bool,
    workgroup_memory: u32,
}

impl Driver {
    /// Opens the first device of the first driver; the error says why there is none.
    fn open() -> Result<Self, String> {
        // SAFETY: the structures live until the calls return, and handles until `drop`.
        unsafe {
            let entry = ash::Entry::load().map_err(|error| error.to_string())?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let failed = |error: vk::Result| error.to_string();
            let instance = entry.create_instance(&info, None).map_err(failed)?;
            let devices = instance.enumerate_physical_devices().map_err(failed)?;
            let physical = *devices.first().ok_or("no device")?;
            let properties = instance.get_physical_device_properties(physical);
            let name = properties.device_name_as_c_str().map_err(|error| error.to_string())?;
            let name = name.to_string_lossy().into_owned();
            if properties.api_version < vk::API_VERSION_1_3 {
                return Err(format!("{name} is older than Vulkan 1.3"));
            }
            let known = instance.enumerate_device_extension_properties(physical).map_err(failed)?;
            let has = |extension: &CStr| {
                known.iter().any(|known| known.extension_name_as_c_str() == Ok(extension))
            };
            let wanted = [khr::pipeline_executable_properties::NAME, khr::cooperative_matrix::NAME];
            let extensions: Vec<_> = wanted.into_iter().filter(|name| has(name)).collect();
            let names: Vec<_> = extensions.iter().map(|name| name.as_ptr()).collect();

            // All features that the device has.
            let mut statistics =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
            let mut features_11 = vk::PhysicalDeviceVulkan11Features::default();
            let mut features_12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut features_13 = vk::PhysicalDeviceVulkan13Features::default();
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut features_11)
                .push_next(&mut features_12)
                .push_next(&mut features_13);
            if extensions.contains(&wanted[0]) {
                features = features.push_next(&mut statistics);
            }
            if extensions.contains(&wanted[1]) {
                features = features.push_next(&mut matrices);
            }
            instance.get_physical_device_features2(physical, &mut features);
            let queue = vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0]);
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(std::slice::from_ref(&queue))
                .enabled_extension_names(&names)
                .push_next(&mut features);
            let device = instance.create_device(physical, &info, None).map_err(failed)?;
            let sizes = match matrices.cooperative_matrix == vk::TRUE {
                true => sizes_of_matrices(&entry, &instance, physical).map_err(failed)?,
                false => BTreeSet::new(),
            };
            let counted = statistics.pipeline_executable_info == vk::TRUE;
            let statistics = counted
                .then(|| khr::pipeline_executable_properties::Device::new(&instance, &device));
            Ok(Self {
                statistics,
                name,
                matrices: sizes,
                has_f16: features_12.shader_float16 == vk::TRUE,
                workgroup_memory: properties.limits.max_compute_shared_memory_size,
                _entry: entry,
                instance,
                device,
            })
        }
    }

    /// Compiles a module and returns the driver's statistics of it.
    fn compile(&self, words: &[u32], bindings: u32) -> Result<Vec<String>, vk::Result> {
        let device = &self.device;
        // SAFETY: as above; what is created here is destroyed here.
        unsafe {
            let info = vk::ShaderModuleCreateInfo::default().code(words);
            let module = device.create_shader_module(&info, None)?;
            let bound: Vec<_> = (0..bindings)
                .map(|binding| {
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(binding)
                        .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                })
                .collect();
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bound);
            let set = device.create_descriptor_set_layout(&info, None)?;
            let info =
                vk::PipelineLayoutCreateInfo::default().set_layouts(std::slice::from_ref(&set));
            let layout = device.create_pipeline_layout(&info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let flags = match self.statistics {
                Some(_) => vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR,
                None => vk::PipelineCreateFlags::empty(),
            };
            let info =
                vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let result = made.map_err(|(_, error)| error).and_then(|pipelines| {
                let statistics = self.statistics_of(pipelines[0]);
                device.destroy_pipeline(pipelines[0], None);
                statistics
            });
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(set, None);
            device.destroy_shader_module(module, None);
            result
        }
    }

    unsafe fn statistics_of(&self, pipeline: vk::Pipeline) -> Result<Vec<String>, vk::Result> {
        let Some(statistics) = &self.statistics else { return Ok(Vec::new()) };
        // SAFETY: the pipeline captures statistics; `format` names the valid field of a value.
        unsafe {
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let list = statistics.get_pipeline_executable_statistics(&info)?;
            let text = |one: &vk::PipelineExecutableStatisticKHR| {
                use vk::PipelineExecutableStatisticFormatKHR as Format;
                let name = one.name_as_c_str().ok()?.to_string_lossy();
                Some(match one.format {
                    Format::FLOAT64 => format!("{name} {}", one.value.f64),
                    Format::BOOL32 => format!("{name} {}", one.value.b32),
                    _ => format!("{name} {}", one.value.u64),
                })
            };
            Ok(list.iter().filter_map(text).collect())
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: everything created from the device has been destroyed.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// Returns the sizes of square f16 matrices with sums in f32.
unsafe fn sizes_of_matrices(
    entry: &ash::Entry,
    instance: &ash::Instance,
    device: vk::PhysicalDevice,
) -> Result<BTreeSet<u32>, vk::Result> {
    let matrices = khr::cooperative_matrix::Instance::new(entry, instance);
    // SAFETY: the device belongs to the instance.
    let known = unsafe { matrices.get_physical_device_cooperative_matrix_properties(device) }?;
    let (half, float) = (vk::ComponentTypeKHR::FLOAT16, vk::ComponentTypeKHR::FLOAT32);
    let fits = known.iter().filter(|unit| {
        unit.m_size == unit.n_size
            && unit.m_size == unit.k_size
            && (unit.a_type, unit.result_type) == (half, float)
    });
    Ok(fits.map(|unit| unit.m_size).collect())
}

/// Returns a module's workgroup memory in bytes.
fn workgroup_memory(module: &naga::Module) -> u32 {
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    let shared = variables.filter(|variable| variable.space == naga::AddressSpace::WorkGroup);
    shared.map(|variable| module.types[variable.ty].inner.size(module.to_ctx())).sum()
}

#[test]
fn a_driver_compiles_the_texts() {
    let driver = match Driver::open() {
        Ok(driver) => driver,
        Err(reason) => {
            let required = cfg!(target_os = "linux") && skip::forbidden("POLYVIEW_REQUIRE_WGPU");
            assert!(!required, "POLYVIEW_REQUIRE_WGPU=1, but no driver compiles: {reason}");
            return skip::skip(format!("no Vulkan driver that compiles: {reason}"));
        }
    };
    let names = std::env::var(NAMES).ok();
    let mut files = BTreeSet::new();
    let mut compiled = 0;
    for (text, module, info) in modules() {
        let source = &text.source;
        let of = |size: &u32| source.contains(&format!("coop_mat{size}x{size}"));
        let can = (!uses_matrix_units(source) || driver.matrices.iter().any(of))
            && (driver.has_f16 || !uses_f16(source))
            && workgroup_memory(module) <= driver.workgroup_memory;
        let wanted = match &names {
            Some(part) => text.name.contains(part),
            None => !files.contains(&text.file),
        };
        if !can || !wanted {
            continue;
        }
        files.insert(text.file);
        let bindings = module.global_variables.iter().filter(|(_, v)| v.binding.is_some()).count();
        let words = spirv(source, module, info, (1, 6));
        let statistics = driver
            .compile(&words, bindings as u32)
            .unwrap_or_else(|error| panic!("{}, {}: {error}", driver.name, text.name));
        if names.is_some() {
            println!("{}: {}", text.name, statistics.join(", "));
        }
        compiled += 1;
    }
    println!("{} compiled {compiled} texts", driver.name);
    assert!(compiled > 0, "{NAMES}: no text that {} supports has this in its name", driver.name);
}
