//! Integration tests of the public API, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adapter;
mod annotations;
mod augment_agree;
mod augment_golden;
mod augment_plan;
mod augment_program;
mod balance;
mod check;
mod checkpoint_damage;
mod fill;
mod freezing;
mod golden;
mod golden_backbone;
mod golden_multiview;
mod golden_training;
mod layout;
mod loading;
mod metrics;
mod model;
mod options;
mod overfit;
mod program;
mod recipe;
mod reference;
mod resize;
mod resume;
mod sampling;
mod schema;
mod schema_file;
mod shaders;
mod synth;
mod video;
mod video_damage;
mod video_ffmpeg;
