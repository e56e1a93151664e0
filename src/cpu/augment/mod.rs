//! The augmentation of a batch: what is to happen to each clip (a [`ClipRecord`] per clip, checked
//! and prepared as a [`AugmentJob`]), and the pixels of it on the CPU ([`host`]).

mod geometry;
pub mod host;
mod job;
mod noise;
mod record;

pub use geometry::{BITS, Geometry};
pub use job::{AugmentError, AugmentJob, Clip, Frames, MEAN, Normalisation, STD};
pub use noise::Noise;
pub use record::{ClipRecord, Crop, Cutout, FrameRecord, RecordError};
