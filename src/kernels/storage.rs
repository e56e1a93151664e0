//! Storage of activations and their gradients in a kernel's buffers: in f32, or in half precision
//! as f16.
//!
//! Kernels compute in f32 either way. A tensor of f16 has the same bytes on every device: where
//! shaders have f16, they read it as such, elsewhere as words of two values each, which core WGSL
//! unpacks. A word can be written by one invocation only, so values are always written four at a
//! time, and buffers have room for a multiple of four. The shader texts differ in the element type
//! of each binding and in the functions that load from it and store to it.

use burn::tensor::DType;

use super::plan::{DeviceLimits, fill};

/// How a buffer holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    /// f32.
    F32,
    /// f16, two to a word.
    Packed,
    /// f16, where shaders have it.
    F16,
    /// The gradient of activations in half precision: packed as well, but values beyond the range
    /// become NaN, so that a loss scale that is too large is noticed.
    Gradient,
}

impl Storage {
    /// Storages of activations in half precision.
    pub(crate) const HALVES: [Self; 2] = [Self::Packed, Self::F16];

    /// Returns how a device's kernels access a tensor of this type.
    pub(crate) fn of(dtype: DType, limits: &DeviceLimits) -> Self {
        match (dtype, limits.shader_f16) {
            (DType::F16, true) => Self::F16,
            (DType::F16, false) => Self::Packed,
            _ => Self::F32,
        }
    }

    /// Returns how the gradient of activations with this storage is stored.
    pub(crate) fn gradient(self) -> Self {
        if self.is_half() { Self::Gradient } else { Self::F32 }
    }

    /// Returns how it is read: gradients differ only in how they are written.
    pub(crate) fn as_source(self) -> Self {
        if self == Self::Gradient { Self::Packed } else { self }
    }

    /// Whether this is half precision.
    pub(crate) fn is_half(self) -> bool {
        self != Self::F32
    }

    /// Returns the type of a tensor with this storage.
    pub(crate) fn dtype(self) -> DType {
        if self.is_half() { DType::F16 } else { DType::F32 }
    }

    /// Returns the bytes of a buffer of `values` values.
    pub(crate) fn bytes(self, values: usize) -> usize {
        match self {
            Self::F32 => 4 * values,
            _ => 2 * values.next_multiple_of(4),
        }
    }

    /// Returns the directive that a shader text starts with, which enables f16.
    pub(crate) fn directive(self) -> &'static str {
        if self == Self::F16 { "enable f16;\n" } else { "" }
    }

    /// Returns the element type of a binding that is read one value at a time or, if `wide`, four.
    pub(crate) fn element(self, wide: bool) -> &'static str {
        match (self, wide) {
            (Self::F32, false) => "f32",
            (Self::F32, true) => "vec4<f32>",
            // Two values; a single one is extracted from its word.
            (Self::Packed | Self::Gradient, false) => "u32",
            (Self::Packed | Self::Gradient, true) => "vec2<u32>",
            (Self::F16, false) => "f16",
            (Self::F16, true) => "vec4<f16>",
        }
    }

    /// Returns the expression for the value (or four) at `index` of the binding `name`. In half
    /// precision it calls the function that [`Self::load`] returns.
    pub(crate) fn read(self, name: &str, index: &str) -> String {
        match self {
            Self::F32 => format!("{name}[{index}]"),
            _ => format!("load_{name}({index})"),
        }
    }

    /// Returns the statement that writes four values at `index` of the binding `name`. In half
    /// precision it calls the function that [`Self::store`] returns.
    pub(crate) fn write(self, name: &str, index: &str, value: &str) -> String {
        match self {
            Self::F32 => format!("{name}[{index}] = {value};"),
            _ => format!("store_{name}({index}, {value});"),
        }
    }

    /// Returns the function that loads from the binding `name`.
    pub(crate) fn load(self, name: &str, wide: bool) -> String {
        let text = match (self, wide) {
            (Self::F32, _) => return String::new(),
            (Self::Packed | Self::Gradient, false) => {
                include_str!("../../shaders/include/half_load_one.wgsl")
            }
            (Self::Packed | Self::Gradient, true) => {
                include_str!("../../shaders/include/half_load.wgsl")
            }
            (Self::F16, false) => include_str!("../../shaders/include/f16_load_one.wgsl"),
            (Self::F16, true) => include_str!("../../shaders/include/f16_load.wgsl"),
        };
        fill(text, &[("name", name.to_owned())])
    }

    /// Returns the functions that store four values to each of these bindings.
    pub(crate) fn store(self, names: &[&str]) -> String {
        let text = match self {
            Self::F32 => return String::new(),
            Self::Packed => include_str!("../../shaders/include/half_store.wgsl"),
            Self::F16 => include_str!("../../shaders/include/f16_store.wgsl"),
            Self::Gradient => include_str!("../../shaders/include/half_store_gradient.wgsl"),
        };
        let range = include_str!("../../shaders/include/half_range.wgsl").to_owned();
        let each = names.iter().map(|name| fill(text, &[("name", (*name).to_owned())]));
        each.fold(range, |all, one| all + &one)
    }
}
