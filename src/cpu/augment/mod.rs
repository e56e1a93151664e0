//! The augmentation of a batch: one [`ClipRecord`] per clip describes what happens to it, an
//! [`AugmentJob`] checks and prepares the records, and [`host`] executes the job on the CPU.

mod geometry;
pub mod host;
mod job;
mod noise;
mod record;

pub use geometry::{BITS, Geometry};
pub use job::{AugmentError, AugmentJob, Clip, Frames, MEAN, Normalisation, STD};
pub use noise::Noise;
pub use record::{ClipRecord, Crop, Cutout, FrameRecord, RecordError};
