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
//! Convolution, normalisation, the optimizer's step and augmentation have kernels of their own;
//! [`tuning`] finds their fastest variants on a device, [`mod@bench`] times them. [`doctor`]
//! examines a machine.
//!
//! Shapes are written `[B, V, C, T, H, W]`: actions, views, channels, frames, height, width; N is
//! the number of real clips in a batch.

pub mod augment;
pub mod bench;
pub mod checkpoint;
mod choices;
pub mod cli;
pub mod config;
#[doc(hidden)]
pub mod conv;
pub mod data;
pub mod device;
pub mod doctor;
pub mod evaluate;
#[doc(hidden)]
pub mod kernels;
pub mod losses;
pub mod metrics;
pub mod model;
#[doc(hidden)]
pub mod norm;
#[doc(hidden)]
pub mod optim;
pub mod report;
pub mod schema;
pub mod sheet;
pub mod synth;
mod timing;
pub mod train;
pub mod tuning;
