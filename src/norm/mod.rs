//! Batch normalisation with what follows it in a residual network.
pub mod cpu;
pub mod wgsl;
