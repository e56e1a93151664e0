//! Shaders and plans for WebGPU in a browser.

use std::borrow::Cow;

use serde::Serialize;

use super::plan::{Plan, Shader, Slot};

/// Whether a shader reads subgroup built-ins or calls subgroup functions, for which a WebGPU device
/// must have been requested with the feature `subgroups`.
pub fn uses_subgroups(source: &str) -> bool {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|word| {
        let rest = word.strip_prefix("subgroup").unwrap_or_default();
        rest.starts_with(|c: char| c == '_' || c.is_ascii_uppercase())
    })
}

/// Whether a shader uses f16, for which a WebGPU device must have been requested with the feature
/// `shader-f16`.
pub fn uses_f16(source: &str) -> bool {
    source.starts_with("enable f16;")
}

/// Whether a shader uses matrix units, which are only in wgpu's dialect of WGSL: neither browsers
/// nor Direct3D accept it.
pub fn uses_matrix_units(source: &str) -> bool {
    source.contains("enable wgpu_cooperative_matrix;")
}

/// Returns a shader as browsers accept it: they require a directive that enables subgroup
/// operations, which naga 30 does not know.
pub fn browser_text(source: &str) -> Cow<'_, str> {
    match uses_subgroups(source) {
        true => Cow::Owned(format!("enable subgroups;\n{source}")),
        false => Cow::Borrowed(source),
    }
}

/// Returns the index of a shader, in the form for browsers, among those of a page; adds it if it is
/// missing.
pub(crate) fn shader_index(shaders: &mut Vec<String>, source: &str) -> usize {
    let text = browser_text(source);
    shaders.iter().position(|known| *known == text).unwrap_or_else(|| {
        shaders.push(text.into_owned());
        shaders.len() - 1
    })
}

/// A plan for a page to execute: buffers of the given sizes and contents, then the launches in
/// order.
#[derive(Debug, Clone, Serialize)]
pub struct WebPlan {
    /// Distinct WGSL texts with the entry point `main`.
    pub shaders: Vec<String>,
    /// Sizes of the temporary buffers, bytes.
    pub scratch: Vec<usize>,
    /// Contents of the tables, 32-bit words.
    pub tables: Vec<Vec<u32>>,
    /// Launches in order.
    pub launches: Vec<WebLaunch>,
}

/// One dispatch: the buffers are bindings 0, 1, … of group 0, all of them read-write storage; the
/// parameters are the last binding, read-only storage.
#[derive(Debug, Clone, Serialize)]
pub struct WebLaunch {
    /// Index in [`WebPlan::shaders`].
    pub shader: usize,
    /// Number of workgroups along x, y and z.
    pub groups: [u32; 3],
    /// `{"operand": n}`, `{"scratch": n}` or `{"table": n}`.
    pub buffers: Vec<Slot>,
    /// Parameters, 32-bit words.
    pub params: Vec<u32>,
}

impl<K: Shader> From<&Plan<K>> for WebPlan {
    fn from(plan: &Plan<K>) -> Self {
        let mut shaders = Vec::new();
        let launches = plan.launches.iter().map(|launch| WebLaunch {
            shader: shader_index(&mut shaders, &launch.kernel.source()),
            groups: launch.groups,
            buffers: launch.buffers.clone(),
            params: launch.params.clone(),
        });
        let launches = launches.collect();
        Self { shaders, scratch: plan.scratch.clone(), tables: plan.tables.clone(), launches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shaders_with_subgroup_operations_enable_them() {
        let plain =
            "// A subgroupBroadcast would be a subgroup_size too wide.\nlet subgroups = 1u;";
        assert_eq!(browser_text(plain), plain);
        for used in ["let x = subgroupBroadcast(y, 0u); // z", "@builtin(subgroup_size) n: u32"] {
            assert_eq!(browser_text(used), format!("enable subgroups;\n{used}"));
        }
    }
}
