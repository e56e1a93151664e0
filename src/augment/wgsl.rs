//! The records executed by a compute shader, `shaders/augment.wgsl`, on any wgpu device whose
//! kernels Burn compiles as WGSL.

use burn::backend::wgpu::{CubeTensor, KernelSource, SourceKernel, SourceTemplate, Wgpu};
use burn::backend::{CubeDevice, DispatchAutodiffContext, DispatchDevice};
use burn::tensor::{DType, Device, Shape, Tensor};
use cubecl::prelude::{CubeCount, CubeDim, ExecutionMode, KernelId};
use cubecl::server::KernelArguments;

use polyview_cpu::augment::{AugmentError, BITS, Clip, Frames, Geometry, Job};

/// Invocations of a workgroup, on every device: a whole number of all known subgroup sizes.
const GROUP: u32 = 64;
/// Pixels that one invocation writes, so that loading the clip's numbers pays.
const PIXELS: u32 = 8;
/// Words of the plan buffer's parts, as in the shader.
const HEADER: usize = 16;
const CLIP: usize = 24;
const DROPPED: u32 = u32::MAX;
const ROTATED: u32 = 1;
const ON_GRID: u32 = 2;
const NOISY: u32 = 4;

const SHADER: &str = include_str!("../../shaders/augment.wgsl");

/// The shader in one of its variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct AugmentKernel {
    source_f32: bool,
}

impl KernelSource for AugmentKernel {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(SHADER)
            .register("source_f32", self.source_f32.to_string())
            .register("group", GROUP.to_string())
            .register("bits", BITS.to_string())
    }

    fn id(&self) -> KernelId {
        // Unchecked: the loops are bounded by what the host wrote, and need no second counter.
        KernelId::new::<Self>()
            .info(*self)
            .cube_dim(CubeDim::new_1d(GROUP).into())
            .mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Every variant of the shader with its name, as it reaches the driver. For validation without a
/// device.
pub fn shader_variants() -> Vec<(String, String)> {
    [false, true]
        .map(|source_f32| {
            let name = format!("augment.wgsl, source_f32 = {source_f32}");
            (name, AugmentKernel { source_f32 }.source().complete())
        })
        .to_vec()
}

/// The device underneath, when it is one that this execution can use.
fn wgsl_device(device: &Device) -> Option<CubeDevice> {
    let plain = device.clone().without_autodiff();
    let DispatchDevice::Cube(cube @ CubeDevice::Wgpu(_)) = plain.as_dispatch() else {
        return None;
    };
    // The name carries the shader language that the runtime settled on: a build with Burn's
    // SPIR-V or MSL compiler would refuse the source at launch.
    cube.client().name().ends_with("<wgsl>").then(|| cube.clone())
}

/// Whether [`execute`] can serve this device.
pub fn supports(device: &Device) -> bool {
    wgsl_device(device).is_some()
}

/// Executes a job on the device: `[N, 3, T', H', W']`. `None` when the device does not take WGSL or
/// when the source does not fit into one of its buffers; the host's execution serves then.
pub fn execute(job: &Job, device: &Device) -> Option<Result<Tensor<5>, AugmentError>> {
    let cube = wgsl_device(device)?;
    let client = cube.client();
    let shape = job.out_shape();
    // 32-bit indices count elements, and one buffer must hold all of them.
    let limit = client.properties().memory.max_page_size.min(4 * u64::from(u32::MAX));
    let need = shape.iter().product::<usize>() as u64 * 4;
    if need > limit {
        return Some(Err(AugmentError::TooLarge { need, limit }));
    }
    let (bytes, count) = match job.frames() {
        Frames::U8(values) => (values.len() as u64, values.len() as u64),
        Frames::F32(values) => (values.len() as u64 * 4, values.len() as u64),
    };
    if bytes > limit || count > u64::from(u32::MAX) {
        return None;
    }
    let (max_x, max_y, _) = client.properties().hardware.max_cube_count;
    let pixels = job.out()[1] * job.out()[2];
    let groups = [
        pixels.div_ceil((GROUP * PIXELS) as usize).min(max_x as usize) as u32,
        (shape[0] * shape[2]).min(max_y as usize) as u32,
    ];

    let source = match job.frames() {
        Frames::U8(values) => client.create_from_slice(values),
        Frames::F32(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            client.create_from_slice(&bytes)
        }
    };
    let words: Vec<u8> = plan(job, groups).into_iter().flat_map(u32::to_le_bytes).collect();
    let words = client.create_from_slice(&words);
    let out = client.empty(need as usize);
    let kernel = AugmentKernel { source_f32: matches!(job.frames(), Frames::F32(_)) };
    client.launch(
        Box::new(SourceKernel::new(kernel, CubeDim::new_1d(GROUP))),
        CubeCount::Static(groups[0], groups[1], 1),
        KernelArguments::new()
            .with_buffer(source.binding())
            .with_buffer(words.binding())
            .with_buffer(out.clone().binding()),
    );
    let tensor = CubeTensor::new_contiguous(client, cube, Shape::from(shape), out, DType::F32);
    Some(Ok(associated(Tensor::from_primitive::<Wgpu>(tensor), device)))
}

/// The tensor with the device's own way of automatic differentiation, as one made there has it.
fn associated(tensor: Tensor<5>, device: &Device) -> Tensor<5> {
    match device.gradient_checkpointing_strategy() {
        None => tensor,
        Some(strategy) => {
            let mut tensor = tensor.autodiff().into_dispatch();
            tensor.autodiff = DispatchAutodiffContext::Enabled(strategy);
            Tensor::from_dispatch(tensor)
        }
    }
}

/// The plan buffer: header, clips, frame tables, tables of places.
fn plan(job: &Job, groups: [u32; 2]) -> Vec<u32> {
    let [t, h, w] = job.size();
    let [out_t, out_h, out_w] = job.out();
    let clips = job.clips().len();
    let mut words = Vec::with_capacity(HEADER + clips * (CLIP + 3 * out_t + 2 * (out_h + out_w)));
    words.extend([clips, t, h, w, out_t, out_h, out_w].map(|v| v as u32));
    words.extend([groups[0] * GROUP, groups[1]]);
    words.extend(job.normalisation().as_flattened().iter().map(|value| value.to_bits()));
    words.resize(HEADER, 0);
    for (n, clip) in job.clips().iter().enumerate() {
        push_clip(clip, &mut words);
        words.resize(HEADER + (n + 1) * CLIP, 0);
    }
    for frame in job.records().iter().flat_map(|record| &record.frames) {
        let source = if frame.dropped { DROPPED } else { frame.source as u32 };
        words.extend([source, frame.partner as u32, frame.mix.to_bits()]);
    }
    for Geometry { columns, rows, .. } in job.clips().iter().map(|clip| &clip.geometry) {
        words.extend(columns.iter().chain(rows).flatten().map(|part| part.cast_unsigned()));
    }
    words
}

/// The numbers of one clip in the order of the shader's `load_clip`.
fn push_clip(clip: &Clip, words: &mut Vec<u32>) {
    let geometry = &clip.geometry;
    let places = [geometry.low, geometry.high, geometry.start, geometry.end];
    words.extend(places.as_flattened().iter().map(|place| place.cast_unsigned()));
    words.extend(geometry.inverse.map(f32::to_bits));
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    words.push(
        flag(geometry.rotated, ROTATED)
            | flag(geometry.on_grid, ON_GRID)
            | flag(clip.noise.is_some(), NOISY),
    );
    let (key, noise) = clip.noise.map_or(([0; 2], 0.0), |noise| (noise.key, noise.scale));
    words.extend(key);
    let colour = [noise, clip.brightness, clip.contrast, clip.contrast_shift];
    words.extend(colour.map(f32::to_bits));
    words.extend(clip.cutout.map(|v| v as u32));
    words.push(clip.fill.to_bits());
}
