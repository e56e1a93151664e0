//! What polyview computes on the CPU, over plain slices: convolution, batch norm, the optimizer's
//! step, sums of gradients, averages of weights, the pixels of an augmentation, colours, resizing.
//!
//! It is a crate of its own so that it is built at opt-level 3 in every profile
//! (`[profile.dev.package]` in the workspace's `Cargo.toml`) and the rest stays fast to compile. It
//! knows neither Burn nor a GPU; `polyview` wraps it for both.

pub mod adam;
pub mod augment;
pub mod blend;
pub mod colour;
pub mod conv;
pub mod norm;
pub mod peak;
pub mod resize;
mod simd;
pub mod sum;

pub use simd::vectors;
