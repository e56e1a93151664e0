//! polyview trains multi-task, multi-view 3D ResNets on video clips, on the CPU or through wgpu on
//! GPUs, from one binary.
//!
//! An *action* is one event filmed by several cameras; each camera's clip is a *view*. A shared 3D
//! ResNet turns every view into a feature, the views of an action are merged, and one head per
//! *task* classifies it.
//!
//! Every part is usable without the command line:
//!
//! * [`config`]: build a [`config::Config`] or load it from a file; [`train::run`] does the whole job.
//! * [`data`], [`schema`], [`augment`]: data sets, loader, augmentation.
//! * [`model`], [`losses`], [`train::freezing`]: the network, its losses and freezing strategies.
//! * [`train::Trainer`]: one training step or pass at a time, for training loops of your own.
//! * [`checkpoint`], [`evaluate`], [`metrics`], [`report`]: the results of training.
//! * [`serve`]: a trained network served over HTTP.
//! * [`sweep`]: a set of runs with different options; [`runs`]: comparison of several runs.
//! * [`device`]: choosing a device; [`tuning`] and [`mod@bench`]: its fastest kernels, timings.
//!
//! Shapes are written `[B, V, C, T, H, W]`: actions, views, channels, frames, height, width; N is
//! the number of real clips in a batch.

// `println!` and `eprintln!` panic when the reading end of a pipe is closed.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod atomic_file;
pub mod augment;
pub mod bench;
mod canvas;
pub mod checkpoint;
pub mod cli;
pub mod cluster;
pub mod config;
#[doc(hidden)]
pub mod conv;
pub mod data;
pub mod device;
mod doctor;
pub mod evaluate;
pub mod half;
#[doc(hidden)]
pub mod kernels;
mod keyed;
pub mod losses;
mod lossy;
pub mod metrics;
pub mod model;
mod near;
#[doc(hidden)]
pub mod norm;
#[doc(hidden)]
pub mod optim;
pub(crate) mod options;
pub mod report;
pub mod runs;
pub mod schema;
pub mod serve;
#[doc(hidden)]
pub mod shaders;
mod sheet;
pub mod sweep;
pub mod synth;
mod text;
mod timing;
pub mod train;
pub mod tuning;
mod units;
pub mod web;
