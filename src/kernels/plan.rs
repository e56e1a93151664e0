//! What a planner hands to the launcher: scratch buffers, tables and launches in order. Nothing
//! here talks to a GPU.

use std::fmt::Debug;
use std::hash::Hash;

use serde::Serialize;

use super::layout::{Layout, Record};
use crate::device::Vendor;

/// A device, as far as the choice of kernels depends on it.
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
    /// Smallest and largest subgroup of the device; `[8, 128]` where Burn does not know them.
    pub subgroup: [u32; 2],
    /// Whether shaders may use subgroup operations.
    pub subgroup_operations: bool,
    /// Whether shaders have f16.
    pub shader_f16: bool,
    /// Whether shaders run on the CPU, where barriers are expensive and workgroup memory is no
    /// faster than any other.
    pub software: bool,
    /// Who made it, which says how many registers an invocation has.
    pub vendor: Vendor,
    /// Its matrix units, where WGSL can use them for f16; their results are not checked yet.
    pub matrix_units: Option<MatrixUnits>,
}

/// Units that multiply square matrices of f16 and add the product to one of f32, a subgroup at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatrixUnits {
    /// Rows and columns of a matrix.
    pub size: u32,
    /// Invocations of a subgroup.
    pub lanes: u32,
    /// Whether they load matrices from arrays of single values, as Metal has it, or from arrays of four,
    /// which are stored with fewer instructions.
    pub scalars: bool,
    /// Whether each invocation multiplies and adds instead: for tests where there are no such units.
    pub emulated: bool,
}

impl DeviceLimits {
    /// What every WebGPU device offers.
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

    /// The struct that the last binding holds.
    fn params(&self) -> &'static Layout;

    /// The other structs that it reads: of its tables, and of the array that its parameters end
    /// with.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests compare them with the WGSL"))]
    fn records(&self) -> &'static [&'static Layout] {
        &[]
    }
}

/// What a launch binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// A buffer of the caller: the n-th of the operation, in the order its planner documents.
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

/// One dispatch. Every buffer is bound as read-write storage in group 0, in this order: two operands
/// may lie in one allocation, which must not be bound both ways. The parameters follow as the last
/// binding. They lie in memory of their own and are bound read-only, so that compilers see what
/// depends on them alone as uniform control flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch<K> {
    /// Which shader in which variant.
    pub kernel: K,
    /// Workgroups.
    pub groups: [u32; 3],
    /// Bindings 0, 1, …
    pub buffers: Vec<Slot>,
    /// The last binding, as it lies in memory.
    pub params: Vec<u32>,
}

impl<K: Shader> Launch<K> {
    /// A launch with the kernel's parameters.
    pub(crate) fn new<P: Record>(
        kernel: K,
        groups: [u32; 3],
        buffers: Vec<Slot>,
        params: &P,
    ) -> Self {
        debug_assert_eq!(kernel.params(), P::LAYOUT, "the parameters of {kernel:?}");
        Self { kernel, groups, buffers, params: params.words() }
    }

    /// The launch with the runtime-sized array that its parameters end with.
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
    /// In order; each may read what the ones before it wrote.
    pub launches: Vec<Launch<K>>,
}

impl<K> Plan<K> {
    /// No launches yet.
    pub(crate) fn new() -> Self {
        Self { scratch: Vec::new(), tables: Vec::new(), launches: Vec::new() }
    }

    /// A plan of one launch without scratch buffers or tables.
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

    /// The same of a size that [`fits`].
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
    #[error("a buffer of {need} bytes is needed, the device binds at most {limit}")]
    TooLarge {
        /// Bytes that one of the buffers needs.
        need: usize,
        /// Bytes that one binding may span.
        limit: usize,
    },
    /// More workgroups than a dispatch may have.
    #[error("more workgroups are needed than the device dispatches")]
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

/// Bytes of a buffer of 32-bit words. Never less than 16, so that every element type can be bound.
fn bytes(words: usize) -> usize {
    words.max(4).saturating_mul(4)
}

/// Largest binding of a kernel: they count elements in i32, whatever the device could bind.
pub(crate) const MOST_BYTES: usize = i32::MAX as usize;

/// Whether one binding can span a buffer of 32-bit words.
pub(crate) fn fits(words: usize, limits: &DeviceLimits) -> Result<(), PlanError> {
    let limit = limits.max_binding_bytes.min(MOST_BYTES);
    let need = bytes(words);
    if need > limit { Err(PlanError::TooLarge { need, limit }) } else { Ok(()) }
}

/// `count` workgroups along x, folded into y where a dimension would overflow, and `z` of them.
/// A kernel numbers them `x + y * groups.x` and leaves the ones beyond `count` idle.
pub(crate) fn fold(count: usize, z: usize, limits: &DeviceLimits) -> Result<[u32; 3], PlanError> {
    let max = limits.max_workgroups_per_dim as usize;
    let x = count.clamp(1, max);
    let y = count.div_ceil(x).max(1);
    if y > max || z > max {
        return Err(PlanError::TooManyGroups);
    }
    Ok([x as u32, y as u32, z as u32])
}

/// The template with `{{ name }}` replaced by the given texts.
pub(crate) fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{ {name} }}}}"), value)
    })
}

/// Template values of an element of one f32 or four.
pub(crate) fn element_values(wide: bool) -> Vec<(&'static str, String)> {
    let (element, lanes, sum) = match wide {
        true => ("vec4<f32>", "4", "(value.x + value.y) + (value.z + value.w)"),
        false => ("f32", "1", "value"),
    };
    vec![("element", element.to_owned()), ("lanes", lanes.to_owned()), ("sum", sum.to_owned())]
}
