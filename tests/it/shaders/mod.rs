//! Compiles every shader in every variant: with naga, which also translates it for Vulkan, Direct3D and
//! Metal, with a Vulkan driver, and with a browser.

mod backends;
mod browser;
mod conv;
mod driver;
mod dump;
mod flow;
mod uniformity;

use std::sync::LazyLock;

use naga::Module;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use polyview::kernels::web::{uses_f16, uses_matrix_units, uses_subgroups};
use polyview::shaders::{ShaderText, shader_texts};

/// Parses and validates a text as wgpu does. The capabilities are those of every WebGPU device, plus
/// subgroup operations, f16 and matrix units for texts that use them: only devices that have these get
/// such texts.
fn module(source: &str) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, uses_subgroups(source));
    capabilities.set(Capabilities::SHADER_FLOAT16, uses_f16(source));
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, uses_matrix_units(source));
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// Returns every text with its module.
fn modules() -> impl Iterator<Item = &'static (ShaderText, Module, ModuleInfo)> {
    static MODULES: LazyLock<Vec<(ShaderText, Module, ModuleInfo)>> = LazyLock::new(|| {
        let with_module = |text: ShaderText| {
            let (module, info) =
                module(&text.source).unwrap_or_else(|error| panic!("{}: {error}", text.name));
            (text, module, info)
        };
        shader_texts().into_iter().map(with_module).collect()
    });
    MODULES.iter()
}
