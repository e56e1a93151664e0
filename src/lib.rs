//! polyview trains multi-task, multi-view 3D ResNets on video clips, on any GPU, from one binary.
//!
//! An *action* is one event filmed by several cameras; each camera's clip is a *view*. A shared 3D
//! ResNet turns every view into a feature, the views of an action are merged, and one head per
//! *task* classifies it.
//!
//! Data flow: [`cli`] → [`config`] → [`train`] → [`data`] (annotations, video, loader) → [`model`] →
//! [`losses`] → [`checkpoint`], [`metrics`], [`report`] → [`device`]. Every part is usable without the
//! command line: build a [`config::Config`] and call [`train::run`], or write a training loop from the
//! parts.
//!
//! The hot operations have custom kernels in [`conv`], [`norm`] and [`optim`]; [`kernels`] determines
//! which devices use them, [`tuning`] finds the fastest variants on a device, and [`mod@bench`]
//! measures them.
//!
//! Shapes are written `[B, V, C, T, H, W]`: actions, views, channels, frames, height, width; N is
//! the number of real clips in a batch.

mod atomic_file;
pub mod augment;
pub mod bench;
mod canvas;
pub mod checkpoint;

pub mod cli;
pub mod config;
pub mod conv;
pub mod data;
pub mod device;
mod doctor;
pub mod evaluate;
pub mod kernels;
pub mod losses;
pub mod metrics;
pub mod model;
pub mod norm;
pub mod optim;
pub(crate) mod options;
pub mod report;
pub mod schema;
mod sheet;
pub mod synth;
pub mod train;
pub mod tuning;
mod units;
