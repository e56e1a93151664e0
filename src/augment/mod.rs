//! Augmentation of clips, and conversion of uint8 frames to the network's input.
//!
//! Planning and execution are separated by one small value per clip, the [`ClipRecord`]. Planning
//! ([`plan_clip`]) draws every random choice on the host from (seed, turn, action, view), where a
//! [`Turn`] is one reading of an action in training. Execution ([`augment`]) applies the record in
//! one pass over the pixels: in a compute shader on devices that run WGSL, otherwise in threads on
//! the CPU. Both give the same pixels, noise included.
//!
//! The stages, in this order, on values in [0, 1]:
//!
//! 1. *temporal*: output frame t is source frame `frames[t].source`, or black if dropped;
//! 2. *space*: crop, resized to the output; rotation; flip; cutout (one bilinear look-up for all);
//! 3. *colour*: clamp(x·brightness), clamp((x − 0.5)·contrast + 0.5);
//! 4. *noise*: clamp(x + noise);
//! 5. *mixing*: x + (partner − x)·mix, the partner being an output frame after step 4;
//! 6. *normalisation*: (x − mean)/std.
//!
//! Clamping is always to [0, 1]; from step 4 on, no value can leave this range. Shrinking frames is
//! not antialiased here: frames that are to shrink by more than a factor of about 2 should be
//! resized when they are loaded ([`crate::data::resize`]), which is antialiased.
//!
//! `ADDING.md` in this folder explains how to add a stage.
//!
//! ```
//! use burn::tensor::Device;
//! use polyview::augment::{AugmentConfig, Frames, Normalisation, augment, plan_clip};
//!
//! let size = [4, 6, 8]; // T, H, W
//! let frames = vec![128; 2 * 4 * 6 * 8 * 3]; // two views
//! let config = AugmentConfig::default();
//! let records: Vec<_> =
//!     (0..2).map(|view| plan_clip(&config, 42, 1, "action 7", view, size, 0.0)).collect();
//! let device = Device::flex();
//! let norm = Normalisation::default();
//! let clips = augment(Frames::U8(&frames), size, &records, [6, 8], &norm, &device).unwrap();
//! assert_eq!(clips.dims(), [2, 3, 4, 6, 8]);
//! ```

mod config;
mod plan;
#[doc(hidden)]
pub mod wgsl;

use burn::tensor::{Device, Tensor, TensorData};

pub use crate::keyed::Turn;
pub use config::{AugmentConfig, Strength};
pub use plan::{plan_clip, rarity};
pub use polyview_cpu::augment::{
    AugmentError, AugmentJob, ClipRecord, Crop, Cutout, FrameRecord, Frames, MEAN, Normalisation,
    RecordError, STD, host,
};

/// Augments a batch and returns it on the device. The input is `frames` `[N, T, H, W, 3]` with
/// `size` = `[T, H, W]` and one record per clip; the result is `[N, 3, T', H', W']` with `out_size`
/// = `[H', W']` and T' the number of frames of the records.
///
/// On a device with automatic differentiation, the result is an autodiff tensor that does not
/// require a gradient.
pub fn augment(
    frames: Frames,
    size: [usize; 3],
    records: &[ClipRecord],
    out_size: [usize; 2],
    normalisation: &Normalisation,
    device: &Device,
) -> Result<Tensor<5>, AugmentError> {
    let job = AugmentJob::new(frames, size, records, out_size, normalisation)?;
    // Uses the shader where it can run, else the CPU.
    wgsl::execute(&job, device).unwrap_or_else(|| Ok(on_host(&job, device)))
}

/// Like [`augment`], but always computes on the host.
pub fn augment_on_host(
    frames: Frames,
    size: [usize; 3],
    records: &[ClipRecord],
    out_size: [usize; 2],
    normalisation: &Normalisation,
    device: &Device,
) -> Result<Tensor<5>, AugmentError> {
    Ok(on_host(&AugmentJob::new(frames, size, records, out_size, normalisation)?, device))
}

fn on_host(job: &AugmentJob, device: &Device) -> Tensor<5> {
    Tensor::from_data(TensorData::new(host::execute(job), job.out_shape()), device)
}

/// Prepares `clips` clips without augmentation, for validation: they are only normalised (and
/// resized if `out_size` differs).
pub fn plain(
    frames: Frames,
    clips: usize,
    size: [usize; 3],
    out_size: [usize; 2],
    normalisation: &Normalisation,
    device: &Device,
) -> Result<Tensor<5>, AugmentError> {
    let records = vec![ClipRecord::identity(size[0]); clips];
    augment(frames, size, &records, out_size, normalisation, device)
}
