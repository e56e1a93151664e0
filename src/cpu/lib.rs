//! polyview's CPU kernels over plain slices: convolution, batch norm, the optimizer step, gradient
//! sums, weight averaging, augmentation, colour conversion and resizing.
//!
//! It is a separate crate so that it is built at opt-level 3 in every profile
//! (`[profile.dev.package]` in the workspace's `Cargo.toml`) while the rest stays fast to compile.
//! It depends neither on Burn nor on a GPU; `polyview` wraps it for both.

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
