//! Executes plans through Burn's own queue.

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
use super::registry::PerDevice;
use crate::device;

/// Storage buffers that the widest of our kernels binds.
const BINDINGS: u32 = 8;

/// What the planners must know of a device; `None` where its kernels are not compiled as WGSL,
/// where it cannot bind enough buffers, or where its compiler would refuse them.
pub(crate) fn limits(device: &CubeDevice) -> Option<DeviceLimits> {
    let CubeDevice::Wgpu(adapter) = device else {
        return None;
    };
    // Querying the driver is slow, and a network asks for every layer.
    static LIMITS: PerDevice<Option<DeviceLimits>> = PerDevice::new();
    *LIMITS.get_or_insert(device, || query(&device.client(), adapter.backend))
}

fn query(client: &Client, api: WgpuBackend) -> Option<DeviceLimits> {
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
             are used: put dxcompiler.dll beside the program, or use Vulkan"
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
}

impl<K: Shader> Source<K> {
    fn dim(&self) -> CubeDim {
        CubeDim::new_1d(self.kernel.workgroup_size())
    }
}

impl<K: Shader> KernelSource for Source<K> {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.kernel.source())
    }

    fn id(&self) -> KernelId {
        // Unchecked: every index is guarded where it can leave its buffer, and loops are bounded by
        // what the planner wrote.
        KernelId::new::<Self>()
            .info(self.kernel)
            .cube_dim(self.dim().into())
            .mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Queues a plan's launches. `operands` are in the order that its planner documents; one that the
/// plan does not use may be any buffer.
pub(crate) fn run<K: Shader>(client: &Client, plan: &Plan<K>, operands: &[&Handle]) {
    let scratch: Vec<Handle> = plan.scratch.iter().map(|&bytes| client.empty(bytes)).collect();
    let upload = |words: &[u32]| client.create_from_slice(bytemuck::cast_slice(words));
    let tables: Vec<Handle> = plan.tables.iter().map(|words| upload(words)).collect();
    for launch in &plan.launches {
        let buffers = launch.buffers.iter().map(|slot| match *slot {
            Slot::Operand(n) => operands[n],
            Slot::Scratch(n) => &scratch[n],
            Slot::Table(n) => &tables[n],
        });
        let arguments = buffers
            .fold(KernelArguments::new(), |arguments, buffer| {
                arguments.with_buffer(buffer.clone().binding())
            })
            .with_buffer(upload(&launch.params).binding());
        let [x, y, z] = launch.groups;
        let source = Source { kernel: launch.kernel };
        let dim = source.dim();
        client.launch(
            Box::new(SourceKernel::new(source, dim)),
            CubeCount::Static(x, y, z),
            arguments,
        );
    }
}

/// An operand of a kernel: the tensor with its values in their logical order.
///
/// # Panics
/// If it is not f32, which is all that the kernels take.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    assert_eq!(tensor.dtype, DType::F32, "an operand of a kernel");
    into_contiguous(tensor)
}

/// An f32 tensor on the device of `like`, for a kernel to fill.
pub(crate) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_on(like.client.clone(), like.device.clone(), shape)
}

/// An f32 tensor on a device, for a kernel to fill.
pub(crate) fn empty_on<const D: usize>(
    client: Client,
    device: CubeDevice,
    shape: [usize; D],
) -> CubeTensor {
    // A binding of less than one vec4 is refused where four values make an element.
    let bytes = shape.iter().product::<usize>().max(4) * 4;
    let handle = client.empty(bytes);
    CubeTensor::new_contiguous(client, device, Shape::from(shape), handle, DType::F32)
}
