//! Plans that planners hand to the launcher: scratch buffers, tables and launches in order. Nothing
//! here accesses a GPU.

use std::fmt::Debug;
use std::hash::Hash;

use serde::Serialize;

use super::layout::{Layout, Record};
use crate::device::Vendor;

/// Properties of a device that the choice of kernels depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceLimits {
    /// Bytes of workgroup memory that one workgroup may use.
    pub workgroup_memory: usize,
    /// Invocations that one workgroup may have.
    pub max_invocations: u32,
    /// Workgroups that one dispatch may have along each dimension.
    pub max_workgroups_per_dim: u32,
    /// Bytes that one binding may span.
    pub max_binding_bytes: usize,
    /// Buffers that one launch may bind, the parameters included.
    pub bindings: u32,
    /// Smallest and largest subgroup size; `[8, 128]` where Burn does not know it.
    pub subgroup: [u32; 2],
    /// Whether shaders may use subgroup operations.
    pub subgroup_operations: bool,
    /// Whether shaders have f16.
    pub shader_f16: bool,
    /// Whether shaders run on the CPU, where barriers are expensive and workgroup memory is no
    /// faster than any other.
    pub software: bool,
    /// Vendor of the device, which determines how many registers an invocation has.
    pub vendor: Vendor,
    /// Matrix units, if WGSL can use them for f16. Their results have not been checked yet.
    pub matrix_units: Option<MatrixUnits>,
}

/// Units with which a subgroup multiplies square matrices of f16 and adds the product to an f32
/// matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatrixUnits {
    /// Number of rows and columns of a matrix.
    pub size: u32,
    /// Number of invocations in a subgroup.
    pub lanes: u32,
    /// Whether matrices are loaded from arrays of single values, as Metal requires, instead of
    /// arrays of vec4, which take fewer instructions to store.
    pub scalars: bool,
    /// Whether ordinary instructions emulate the units, for tests on devices without them.
    pub emulated: bool,
}

impl DeviceLimits {
    /// Limits that every WebGPU device offers.
    pub const WEBGPU: Self = Self {
        workgroup_memory: 16 << 10,
        max_invocations: 256,
        max_workgroups_per_dim: 65535,
        max_binding_bytes: 128 << 20,
        bindings: 8,
        subgroup: [0, 0],
        subgroup_operations: false,
        shader_f16: false,
        software: false,
        vendor: Vendor::Unknown,
        matrix_units: None,
    };
}

/// One variant of one shader of a family.
pub(crate) trait Shader: Copy + Eq + Hash + Debug + Send + Sync + 'static {
    /// Name of the file under `shaders/`.
    fn file(&self) -> &'static str;

    /// The WGSL source. The entry point is `main`.
    fn source(&self) -> String;

    /// Invocations of a workgroup, all along x.
    fn workgroup_size(&self) -> u32;

    /// Layout of the parameters, which are the last binding.
    fn params(&self) -> &'static Layout;

    /// Layouts of the other structs that the shader reads: those of its tables, and of the array at
    /// the end of its parameters.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests compare them with the WGSL"))]
    fn records(&self) -> &'static [&'static Layout] {
        &[]
    }
}

/// A buffer that a launch binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The n-th buffer that the caller passes, in the order that the operation's planner documents.
    Operand(usize),
    /// The n-th of the plan's scratch buffers.
    Scratch(usize),
    /// The n-th of the plan's tables.
    Table(usize),
}

/// How a kernel uses a buffer that it binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// One dispatch. Every buffer is bound as read-write storage in group 0, in this order: two
/// operands may be in the same allocation, which must not be bound both ways. The parameters follow
/// as the last binding. They are in separate memory and bound read-only, so that compilers see that
/// control flow which depends on them alone is uniform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch<K> {
    /// The shader and its variant.
    pub kernel: K,
    /// Number of workgroups along x, y and z.
    pub groups: [u32; 3],
    /// Buffers of the bindings 0, 1, …
    pub buffers: Vec<Slot>,
    /// Contents of the last binding.
    pub params: Vec<u32>,
}

impl<K: Shader> Launch<K> {
    /// Creates a launch with the kernel's parameters.
    pub(crate) fn new<P: Record>(
        kernel: K,
        groups: [u32; 3],
        buffers: Vec<Slot>,
        params: &P,
    ) -> Self {
        debug_assert_eq!(kernel.params(), P::LAYOUT, "the parameters of {kernel:?}");
        Self { kernel, groups, buffers, params: params.words() }
    }

    /// Adds the runtime-sized array at the end of the parameters.
    pub(crate) fn with_tail(mut self, tail: impl IntoIterator<Item = u32>) -> Self {
        debug_assert!(self.kernel.params().tail.is_some(), "{:?} has no tail", self.kernel);
        self.params.extend(tail);
        self
    }
}

/// An operation as launches that run one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan<K> {
    /// Bytes of each temporary buffer. Their contents before the first launch do not matter.
    pub scratch: Vec<usize>,
    /// Data that is uploaded before the first launch, in 32-bit words.
    pub tables: Vec<Vec<u32>>,
    /// Launches in order; each may read what earlier ones have written.
    pub launches: Vec<Launch<K>>,
}

impl<K> Plan<K> {
    /// Creates a plan without launches.
    pub(crate) fn new() -> Self {
        Self { scratch: Vec::new(), tables: Vec::new(), launches: Vec::new() }
    }

    /// Creates a plan of one launch without scratch buffers or tables.
    pub(crate) fn single(launch: Launch<K>) -> Self {
        Self { launches: vec![launch], ..Self::new() }
    }

    /// Reserves a temporary buffer of `words` 32-bit words, if one binding can span it.
    pub(crate) fn scratch(
        &mut self,
        words: usize,
        limits: &DeviceLimits,
    ) -> Result<Slot, PlanError> {
        fits(words, limits)?;
        Ok(self.scratch_that_fits(words))
    }

    /// Like [`Self::scratch`], for a size that [`fits`].
    pub(crate) fn scratch_that_fits(&mut self, words: usize) -> Slot {
        self.scratch.push(bytes(words));
        Slot::Scratch(self.scratch.len() - 1)
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, words: Vec<u32>) -> Slot {
        self.tables.push(words);
        Slot::Table(self.tables.len() - 1)
    }
}

/// Why a device cannot execute an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A buffer is larger than one binding may be.
    #[error("a buffer of {need} bytes is needed, but the device can bind at most {limit}")]
    TooLarge {
        /// Bytes that one of the buffers needs.
        need: usize,
        /// Bytes that one binding may span.
        limit: usize,
    },
    /// More workgroups than a dispatch may have.
    #[error("more workgroups are needed than the device can dispatch")]
    TooManyGroups,
    /// A window of more than 31 taps, all three extents added.
    #[error("no kernel for a window of {}×{}×{}: its extents add up to more than 31", .0[0], .0[1], .0[2])]
    Kernel([usize; 3]),
    /// A size is zero, or the window does not fit into the padded input.
    #[error("a size is zero, or the window is larger than its input")]
    Shape,
    /// The device cannot run the smallest variant.
    #[error("the device's limits are too low for any of the kernels")]
    Device,
}

/// Returns the bytes of a buffer of 32-bit words: at least 16, so that every element type can be
/// bound.
fn bytes(words: usize) -> usize {
    words.max(4).saturating_mul(4)
}

/// Largest binding of a kernel in bytes, whatever the device can bind: kernels count in i32.
pub(crate) const MOST_BYTES: usize = i32::MAX as usize;

/// Checks that one binding can span a buffer of 32-bit words.
pub(crate) fn fits(words: usize, limits: &DeviceLimits) -> Result<(), PlanError> {
    let limit = limits.max_binding_bytes.min(MOST_BYTES);
    let need = bytes(words);
    if need > limit { Err(PlanError::TooLarge { need, limit }) } else { Ok(()) }
}

/// Returns `count` workgroups along x, folded into y where a dimension would overflow, and `z`
/// along z. A kernel numbers them `x + y * groups.x` and leaves those beyond `count` idle.
pub(crate) fn fold(count: usize, z: usize, limits: &DeviceLimits) -> Result<[u32; 3], PlanError> {
    let max = limits.max_workgroups_per_dim as usize;
    let x = count.clamp(1, max);
    let y = count.div_ceil(x).max(1);
    if y > max || z > max {
        return Err(PlanError::TooManyGroups);
    }
    Ok([x as u32, y as u32, z as u32])
}

/// Returns the template with every `{{ name }}` replaced by the given text.
pub(crate) fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{ {name} }}}}"), value)
    })
}

/// Returns the template values for elements of one f32, or of four if `wide`.
pub(crate) fn element_values(wide: bool) -> Vec<(&'static str, String)> {
    let (element, lanes, sum) = match wide {
        true => ("vec4<f32>", "4", "(value.x + value.y) + (value.z + value.w)"),
        false => ("f32", "1", "value"),
    };
    vec![("element", element.to_owned()), ("lanes", lanes.to_owned()), ("sum", sum.to_owned())]
}
