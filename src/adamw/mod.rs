//! One step of Adam or AdamW in one pass.
pub mod cpu;
pub mod wgsl;
