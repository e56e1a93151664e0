//! Carries plans out through Burn's own queue.

use std::sync::Mutex;

use burn::backend::CubeDevice;
use burn::backend::wgpu::{
    CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous,
};
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{DType, Shape};
use cubecl::client::Client;
use cubecl::prelude::{CubeCount, CubeDim, ExecutionMode, KernelId};
use cubecl::server::{Handle, KernelArguments};

use super::plan::{DeviceLimits, Plan, Shader, Slot};
use crate::device;

/// Storage buffers that the widest of our kernels binds.
const BINDINGS: u32 = 8;

/// What the planners must know of a device; `None` where its kernels are not compiled as WGSL, where
/// it cannot bind enough buffers, or where its compiler would refuse them.
pub(crate) fn limits(device: &CubeDevice) -> Option<DeviceLimits> {
    let CubeDevice::Wgpu(adapter) = device else {
        return None;
    };
    // Asking the driver takes its time, and a network asks for every layer.
    static KNOWN: Mutex<Vec<(CubeDevice, Option<DeviceLimits>)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((_, limits)) = known.iter().find(|(of, _)| of == device) {
        return *limits;
    }
    let limits = ask(&device.client(), adapter.backend);
    known.push((device.clone(), limits));
    limits
}

fn ask(client: &Client, api: WgpuBackend) -> Option<DeviceLimits> {
    let properties = client.properties();
    let hardware = &properties.hardware;
    // The name carries the shader language that the runtime settled on: a build with Burn's
    // SPIR-V or MSL compiler would refuse the source at launch. cubecl keeps one binding back.
    if !client.name().ends_with("<wgsl>") || hardware.max_bindings + 1 < BINDINGS {
        return None;
    }
    let (x, y, z) = hardware.max_cube_count;
    let name = &properties.identity.name;
    let adapter = device::adapter_traits(name, api);
    // FXC takes no barrier inside of a loop whose end is read from a buffer that could be written
    // to, which Burn makes of every buffer.
    if adapter.fxc {
        log::warn!(
            "{name}: Direct3D 12 lacks its newer shader compiler, so Burn's own, slower kernels \
             serve: put dxcompiler.dll beside the program, or take --device vulkan"
        );
        return None;
    }
    Some(DeviceLimits {
        workgroup_memory: hardware.max_shared_memory_size,
        max_invocations: hardware.max_units_per_cube,
        max_workgroups_per_dim: x.min(y).min(z),
        max_binding_bytes: usize::try_from(properties.memory.max_page_size).unwrap_or(usize::MAX),
        subgroup: [hardware.plane_size_min, hardware.plane_size_max],
        subgroup_operations: adapter.subgroups,
        software: adapter.software,
    })
}

/// One variant of a shader, as Burn takes it.
struct Source<K> {
    kernel: K,
    dim: CubeDim,
}

impl<K: Shader> KernelSource for Source<K> {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.kernel.source())
    }

    fn id(&self) -> KernelId {
        // Unchecked: every index is guarded where it can leave its buffer.
        KernelId::new::<Self>()
            .info(self.kernel)
            .cube_dim(self.dim.into())
            .mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Queues a plan's launches. `operands` are in the order that its planner documents; a place that
/// the plan does not name may hold any buffer.
pub(crate) fn run<K: Shader>(client: &Client, plan: &Plan<K>, operands: &[&Handle]) {
    let scratch: Vec<Handle> = plan.scratch.iter().map(|&bytes| client.empty(bytes)).collect();
    for launch in &plan.launches {
        let [x, y, z] = launch.workgroup_size;
        let dim = CubeDim::new_3d(x, y, z);
        let words: Vec<u8> = launch.params.iter().flat_map(|word| word.to_le_bytes()).collect();
        let buffers = launch.buffers.iter().filter_map(|slot| match *slot {
            Slot::Operand(n) => operands.get(n).copied(),
            Slot::Scratch(n) => scratch.get(n),
        });
        let arguments = buffers
            .fold(KernelArguments::new(), |arguments, buffer| {
                arguments.with_buffer(buffer.clone().binding())
            })
            .with_buffer(client.create_from_slice(&words).binding());
        let [x, y, z] = launch.groups;
        client.launch(
            Box::new(SourceKernel::new(Source { kernel: launch.kernel, dim }, dim)),
            CubeCount::Static(x, y, z),
            arguments,
        );
    }
}

/// The tensor with its numbers in their logical order.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// A f32 tensor on the device of `like`, for a kernel to fill.
pub(crate) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    // A binding of less than one vec4 is refused where four numbers make an element.
    let bytes = shape.iter().product::<usize>().max(4) * 4;
    let (client, device) = (like.client.clone(), like.device.clone());
    let handle = client.empty(bytes);
    CubeTensor::new_contiguous(client, device, Shape::from(shape), handle, DType::F32)
}
