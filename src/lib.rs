//! polyview trains multi-task, multi-view 3D ResNets on video clips, on any GPU, from one binary.
//!
//! An *action* is one event filmed by several cameras; each camera's clip is a *view*. A shared 3D
//! ResNet turns every view into a feature, the views of an action are merged, and one head per
//! *task* classifies it.
//!
//! The way of the data: [`cli`] → [`config`] → [`train`] → [`data`] (annotations, video, loader) →
//! [`model`] → [`losses`] → [`checkpoint`], [`metrics`], [`report`] → [`device`]. Every part is
//! usable without the command line: build a [`config::Config`], call [`train::run`], or take the
//! parts and write a loop of your own.
//!
//! The hot operations have kernels of their own in [`conv`], [`norm`] and [`optim`]; [`kernels`]
//! says which devices take them, [`tuning`] which variants are fastest there, [`mod@bench`] what they
//! are worth. [`doctor`] examines a machine.
//!
//! Shapes are written `[B, V, C, T, H, W]`: actions, views, channels, frames, height, width; N is
//! the number of real clips in a batch.

mod atomic_file;
pub mod augment;
pub mod bench;
mod canvas;
pub mod checkpoint;
mod choices;
pub mod cli;
pub mod config;
pub mod conv;
pub mod data;
pub mod device;
pub mod doctor;
pub mod evaluate;
pub mod kernels;
pub mod losses;
pub mod metrics;
pub mod model;
pub mod norm;
pub mod optim;
pub mod report;
pub mod schema;
pub mod sheet;
pub mod synth;
pub mod train;
pub mod tuning;
mod units;
