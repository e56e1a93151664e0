//! Execution of the records by a compute shader, `shaders/augment.wgsl`.

use burn::backend::DispatchAutodiffContext;
use burn::backend::wgpu::CubeBackend;
use burn::tensor::{Device, Tensor};
use polyview_cpu::augment::{AugmentError, AugmentJob, BITS, Clip, Frames, Geometry};

use crate::device::cube_device;
use crate::kernels::layout::{Layout, Record, array_words, wgsl_struct};
use crate::kernels::plan::{self, DeviceLimits, Launch, Shader, Slot, fill};
use crate::kernels::{Implementation, launch};

/// Invocations per workgroup on every device, a multiple of all known subgroup sizes.
const GROUP: u32 = 64;
/// Pixels written per invocation, to amortise loading the clip's record.
const PIXELS: u32 = 8;
/// Source index that marks a dropped frame, as in the shader.
const DROPPED: u32 = u32::MAX;
/// Bits of a clip's flags, as in the shader.
const ROTATED: u32 = 1;
const ON_GRID: u32 = 2;
const NOISY: u32 = 4;

/// One variant of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AugmentKernel {
    source_f32: bool,
}

/// Plan of an augmentation's launch.
pub(crate) type AugmentPlan = plan::Plan<AugmentKernel>;

wgsl_struct! {
    struct AugmentParams as "Params" {
        size: [u32; 3],
        clips: u32,
        out_size: [u32; 3],
        out_pixels: u32,
        mean: [f32; 3],
        pixel_stride: u32,
        scale: [f32; 3],
        frame_stride: u32,
    }
}

wgsl_struct! {
    /// [`Clip`] in the shader's layout.
    struct GpuClip as "ClipRecord" {
        low: [i32; 2],
        high: [i32; 2],
        start: [i32; 2],
        end: [i32; 2],
        inverse: [f32; 2],
        noise_key: [u32; 2],
        cutout_low: [u32; 2],
        cutout_high: [u32; 2],
        fill: f32,
        brightness: f32,
        contrast: f32,
        contrast_shift: f32,
        noise: f32,
        flags: u32,
    }
}

wgsl_struct! {
    /// [`polyview_cpu::augment::FrameRecord`] in the shader's layout.
    struct GpuFrame as "FrameRecord" {
        from_frame: u32,
        partner: u32,
        mix: f32,
    }
}

impl From<&Clip> for GpuClip {
    fn from(clip: &Clip) -> Self {
        let Geometry { low, high, start, end, inverse, rotated, on_grid, .. } = clip.geometry;
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let (noise_key, noise) = clip.noise.map_or(([0; 2], 0.0), |noise| (noise.key, noise.scale));
        let [x0, y0, x1, y1] = clip.cutout.map(|edge| edge as u32);
        Self {
            low,
            high,
            start,
            end,
            inverse,
            noise_key,
            cutout_low: [x0, y0],
            cutout_high: [x1, y1],
            fill: clip.fill,
            brightness: clip.brightness,
            contrast: clip.contrast,
            contrast_shift: clip.contrast_shift,
            noise,
            flags: flag(rotated, ROTATED)
                | flag(on_grid, ON_GRID)
                | flag(clip.noise.is_some(), NOISY),
        }
    }
}

impl Shader for AugmentKernel {
    fn file(&self) -> &'static str {
        "augment.wgsl"
    }

    fn source(&self) -> String {
        let values = [
            ("source_f32", self.source_f32.to_string()),
            ("group", GROUP.to_string()),
            ("bits", BITS.to_string()),
        ];
        fill(include_str!("../../shaders/augment.wgsl"), &values)
    }

    fn workgroup_size(&self) -> u32 {
        GROUP
    }

    fn params(&self) -> &'static Layout {
        AugmentParams::LAYOUT
    }

    fn records(&self) -> &'static [&'static Layout] {
        &[GpuClip::LAYOUT, GpuFrame::LAYOUT]
    }
}

impl AugmentKernel {
    /// Returns all variants.
    pub(crate) fn variants() -> Vec<Self> {
        [false, true].map(|source_f32| Self { source_f32 }).to_vec()
    }
}

/// Executes a job on the device and returns `[N, 3, T', H', W']`, or `None` if the device does not
/// run WGSL or the source does not fit into one of its buffers.
///
/// # Errors
/// [`AugmentError::TooLarge`] if the result does not fit into one of the device's buffers.
pub fn execute(job: &AugmentJob, device: &Device) -> Option<Result<Tensor<5>, AugmentError>> {
    let Implementation::Wgsl(limits) = Implementation::of(device) else { return None };
    let cube = cube_device(device)?;
    let client = cube.client();
    // The shader indexes elements with u32.
    let limit = (limits.max_binding_bytes as u64).min(4 * u64::from(u32::MAX));
    let need = job.out_shape().iter().product::<usize>() as u64 * 4;
    if need > limit {
        return Some(Err(AugmentError::TooLarge { need, limit }));
    }
    let (source, count): (&[u8], usize) = match job.frames() {
        Frames::U8(values) => (values, values.len()),
        Frames::F32(values) => (bytemuck::cast_slice(values), values.len()),
    };
    if source.len() as u64 > limit || count as u64 > u64::from(u32::MAX) {
        return None;
    }
    let plan = plan(job, &limits);
    let source = client.create_from_slice(source);
    let clips = launch::empty_on(client, cube, job.out_shape());
    launch::run(&clips.client, &plan, &[&source, &clips.handle]);
    Some(Ok(with_autodiff_of(device, Tensor::from_primitive::<CubeBackend>(clips))))
}

/// Enables automatic differentiation on the tensor if the device has it, as for tensors created
/// there.
fn with_autodiff_of(device: &Device, tensor: Tensor<5>) -> Tensor<5> {
    match device.gradient_checkpointing_strategy() {
        None => tensor,
        Some(strategy) => {
            let mut tensor = tensor.autodiff().into_dispatch();
            tensor.autodiff = DispatchAutodiffContext::Enabled(strategy);
            Tensor::from_dispatch(tensor)
        }
    }
}

/// Plans the launch, which reads operand 0, the source frames, and writes operand 1, the clips.
fn plan(job: &AugmentJob, limits: &DeviceLimits) -> AugmentPlan {
    let [_, out_h, out_w] = job.out();
    let [clips, _, out_t, ..] = job.out_shape();
    let out_pixels = out_h * out_w;
    let most = limits.max_workgroups_per_dim as usize;
    let groups = [
        out_pixels.div_ceil((GROUP * PIXELS) as usize).min(most) as u32,
        (clips * out_t).min(most) as u32,
        1,
    ];
    let [mean, scale] = job.normalisation();
    let params = AugmentParams {
        size: job.size().map(|side| side as u32),
        clips: clips as u32,
        out_size: job.out().map(|side| side as u32),
        out_pixels: out_pixels as u32,
        mean,
        pixel_stride: groups[0] * GROUP,
        scale,
        frame_stride: groups[1],
    };
    let frames = job.records().iter().flat_map(|record| &record.frames).map(|frame| GpuFrame {
        from_frame: if frame.dropped { DROPPED } else { frame.source as u32 },
        partner: frame.partner as u32,
        mix: frame.mix,
    });
    let positions = job.clips().iter().flat_map(|clip| {
        let Geometry { columns, rows, .. } = &clip.geometry;
        columns.iter().chain(rows).flatten().map(|part| part.cast_unsigned())
    });
    let mut plan = AugmentPlan::new();
    let buffers = vec![
        Slot::Operand(0),
        Slot::Operand(1),
        plan.table(array_words(job.clips().iter().map(GpuClip::from))),
        plan.table(array_words(frames)),
        plan.table(positions.collect()),
    ];
    let kernel = AugmentKernel { source_f32: matches!(job.frames(), Frames::F32(_)) };
    plan.launches.push(Launch::new(kernel, groups, buffers, &params));
    plan
}
