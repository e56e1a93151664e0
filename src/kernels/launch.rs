//! Executes plans through Burn's own queue.

use burn::backend::wgpu::{
    CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous,
};
use burn::backend::{CubeDevice, TensorMetadata};
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{DType, Shape};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::{CubeCount, CubeDim, ExecutionMode, KernelId};
use cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};

use super::memory;
use super::plan::{DeviceLimits, MatrixUnits, Plan, Shader, Slot};
use super::registry::PerDevice;
use super::storage::Storage;
use crate::device::{self, AdapterTraits};

/// Number of storage buffers that a device must bind at once: as many as convolution and
/// normalisation need. Kernels that can bind more use as many as the device allows.
const BINDINGS: u32 = 8;

/// Returns what the planners need to know about a device; `None` if its kernels are not compiled as
/// WGSL, if it cannot bind enough buffers, or if its compiler would refuse the kernels.
pub(crate) fn limits(device: &CubeDevice) -> Option<DeviceLimits> {
    let CubeDevice::Wgpu(adapter) = device else {
        return None;
    };
    // Querying the driver is slow, and every layer of a network needs the limits.
    static LIMITS: PerDevice<Option<DeviceLimits>> = PerDevice::new();
    let api = || device::api_of(device).unwrap_or(adapter.backend);
    let limits = *LIMITS.get_or_insert(device, || query(&device.client(), api()));
    limits.map(super::overridden)
}

fn query(client: &Client, api: WgpuBackend) -> Option<DeviceLimits> {
    let properties = client.properties();
    let hardware = &properties.hardware;
    // The client's name contains the shader language that the runtime has chosen: a build with
    // Burn's SPIR-V or MSL compiler would refuse the source at launch. CubeCL reserves one binding.
    if !client.name().ends_with("<wgsl>") || hardware.max_bindings + 1 < BINDINGS {
        return None;
    }
    let (x, y, z) = hardware.max_cube_count;
    let name = &properties.identity.name;
    let adapter = device::adapter_traits(name, api);
    // FXC refuses barriers in loops that it cannot prove uniform. The bounds of ours are read-only
    // parameters, but no shader has been tried with it.
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
        // CubeCL reserves one for the array lengths that shaders on Metal need.
        bindings: hardware.max_bindings.max(BINDINGS),
        subgroup: [hardware.plane_size_min, hardware.plane_size_max],
        subgroup_operations: adapter.subgroups,
        shader_f16: properties.features.supports_type(ElemType::Float(FloatKind::F16)),
        software: adapter.software,
        vendor: adapter.vendor,
        matrix_units: matrix_units(&adapter, hardware.plane_size_min),
    })
}

/// Returns a device's matrix units, for subgroups of its smallest size. On a software rasteriser
/// they would save nothing; `POLYVIEW_WITHOUT_MATRIX_UNITS=1` turns them off, for comparisons or
/// where a driver fails.
fn matrix_units(adapter: &AdapterTraits, lanes: u32) -> Option<MatrixUnits> {
    let wanted = std::env::var_os("POLYVIEW_WITHOUT_MATRIX_UNITS").is_none();
    let size = adapter.matrix_size.filter(|_| wanted && !adapter.software && lanes > 0)?;
    Some(MatrixUnits { size, lanes, scalars: adapter.metal, emulated: false })
}

/// One variant of a shader, in the form that Burn expects.
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
        // Unchecked: every index that could exceed its buffer is guarded, and loops are bounded by
        // the planner's parameters.
        KernelId::new::<Self>()
            .info(self.kernel)
            .cube_dim(self.dim().into())
            .mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Queues a plan's launches. `operands` are in the order that its planner documents; those that the
/// plan does not use may be any buffer.
pub(crate) fn run<K: Shader>(client: &Client, plan: &Plan<K>, operands: &[&Handle]) {
    let scratch: Vec<Handle> = plan.scratch.iter().map(|&bytes| client.empty(bytes)).collect();
    let tables = upload(client, &plan.tables);
    memory::observe(client);
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
            .with_info(parameters(&launch.params));
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

/// Packs a launch's parameters, which Burn binds after the buffers. Burn caches them by content in
/// separate memory and writes new ones without a submit, whereas an upload into a buffer would
/// submit everything queued before it.
fn parameters(words: &[u32]) -> MetadataBindingInfo {
    // The size of a struct is a multiple of its alignment, 16 bytes at most.
    let whole = words.len().next_multiple_of(4);
    let word = |at: usize| u64::from(words.get(at).copied().unwrap_or(0));
    let pair = |at: usize| word(at) | word(at + 1) << 32;
    MetadataBindingInfo::custom((0..whole).step_by(2).map(pair).collect())
}

/// Uploads the tables into separate buffers at once: each upload submits what is queued.
fn upload(client: &Client, tables: &[Vec<u32>]) -> Vec<Handle> {
    if tables.is_empty() {
        return Vec::new();
    }
    let align = (client.properties().memory.alignment as usize).max(4);
    let mut bytes: Vec<u8> = Vec::new();
    let ranges: Vec<_> = tables
        .iter()
        .map(|words| {
            bytes.resize(bytes.len().next_multiple_of(align), 0);
            let start = bytes.len();
            bytes.extend_from_slice(bytemuck::cast_slice(words));
            start..bytes.len()
        })
        .collect();
    let (all, len) = (client.create_from_slice(&bytes), bytes.len());
    let part = |range: std::ops::Range<usize>| {
        all.clone().offset_start(range.start as u64).offset_end((len - range.end) as u64)
    };
    ranges.into_iter().map(part).collect()
}

/// Returns the tensor as an operand of a kernel, with its values in logical order.
///
/// # Panics
/// If it is not f32, the only type that the kernels take besides activations.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    assert_eq!(tensor.dtype, DType::F32, "an operand of a kernel");
    into_contiguous(tensor)
}

/// Returns activations as an operand of a kernel, in f32 or in half precision.
///
/// # Panics
/// If they are of another type, or in half precision and not contiguous: only our kernels create
/// such tensors, and they write them contiguously, so devices need not be able to copy them.
pub(crate) fn stored(tensor: CubeTensor) -> CubeTensor {
    if tensor.dtype == DType::F16 {
        assert!(tensor.is_contiguous(), "activations in half precision");
        return tensor;
    }
    contiguous(tensor)
}

/// Allocates an f32 tensor on the device of `like`, for a kernel to fill.
pub(crate) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_on(like.client.clone(), like.device.clone(), shape)
}

/// Allocates an f32 tensor on a device, for a kernel to fill.
pub(crate) fn empty_on<const D: usize>(
    client: Client,
    device: CubeDevice,
    shape: [usize; D],
) -> CubeTensor {
    allocate(client, device, Shape::from(shape), Storage::F32)
}

/// Allocates a tensor of activations on the device of `like`, for a kernel to fill.
pub(crate) fn empty_stored(
    like: &CubeTensor,
    shape: impl Into<Shape>,
    storage: Storage,
) -> CubeTensor {
    allocate(like.client.clone(), like.device.clone(), shape.into(), storage)
}

fn allocate(client: Client, device: CubeDevice, shape: Shape, storage: Storage) -> CubeTensor {
    // A binding smaller than a vec4 is refused where an element consists of four values.
    let handle = client.empty(storage.bytes(shape.num_elements()).max(16));
    CubeTensor::new_contiguous(client, device, shape, handle, storage.dtype())
}

/// Returns a part of a contiguous f32 tensor, from the value `start` on, as a tensor in the same
/// memory. `start` must be a multiple of 64, so that the part can be bound separately.
pub(crate) fn part<const D: usize>(of: &CubeTensor, start: usize, shape: [usize; D]) -> CubeTensor {
    let (end, all) = (start + shape.iter().product::<usize>(), of.shape().num_elements());
    let handle =
        of.handle.clone().offset_start(4 * start as u64).offset_end(4 * (all - end) as u64);
    let (client, device) = (of.client.clone(), of.device.clone());
    CubeTensor::new_contiguous(client, device, Shape::from(shape), handle, DType::F32)
}
