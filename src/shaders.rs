//! Every variant of every shader, for tests with compilers.

#[cfg(test)]
mod layouts;

use crate::augment::wgsl::AugmentKernel;
use crate::bench::PeakKernel;
use crate::conv::wgsl::ConvKernel;
use crate::half::wgsl::CastKernel;
use crate::kernels::layout::Layout;
use crate::kernels::plan::Shader;
use crate::norm::wgsl::NormKernel;
use crate::optim::wgsl::OptimKernel;
use crate::web::MaxPoolKernel;

/// One variant of a shader as it reaches the driver, and what Rust assumes about it.
pub struct ShaderText {
    /// The file under `shaders/`.
    pub file: &'static str,
    /// The file's name and the variant, usable as a file name and unique.
    pub name: String,
    /// WGSL as it is passed to wgpu.
    pub source: String,
    /// Number of invocations in a workgroup.
    pub workgroup_size: u32,
    #[cfg_attr(not(test), allow(dead_code, reason = "tests compare them with the WGSL"))]
    params: &'static Layout,
    #[cfg_attr(not(test), allow(dead_code, reason = "tests compare them with the WGSL"))]
    records: &'static [&'static Layout],
}

/// Returns every variant of every shader. New families of shaders must be added here.
pub fn shader_texts() -> Vec<ShaderText> {
    fn of<K: Shader>(kernels: Vec<K>) -> impl Iterator<Item = ShaderText> {
        kernels.into_iter().map(|kernel| ShaderText {
            file: kernel.file(),
            name: name(kernel.file(), &format!("{kernel:?}")),
            source: kernel.source(),
            workgroup_size: kernel.workgroup_size(),
            params: kernel.params(),
            records: kernel.records(),
        })
    }
    of(AugmentKernel::variants())
        .chain(of(ConvKernel::variants()))
        .chain(of(CastKernel::variants()))
        .chain(of(NormKernel::variants()))
        .chain(of(OptimKernel::variants()))
        .chain(of(MaxPoolKernel::variants()))
        .chain(of(vec![PeakKernel]))
        .collect()
}

/// Returns a name such as `conv_weight-tile-tm8-tn8-tx16-ty8-loads-Tap` for "conv_weight.wgsl" and
/// the kernel as `Debug` prints it, without the names of its types.
fn name(file: &str, kernel: &str) -> String {
    let mut name = file.trim_end_matches(".wgsl").to_owned();
    let mut after_type = kernel;
    while let Some(start) = after_type.find(|c: char| c.is_alphanumeric()) {
        let from = &after_type[start..];
        let end = from.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(from.len());
        let (word, rest) = from.split_at(end);
        let is_type = rest.trim_start().starts_with('{') || word.len() == kernel.len();
        if !is_type {
            if !word.starts_with(|c: char| c.is_ascii_digit()) {
                name.push('-');
            }
            name.push_str(word);
        }
        after_type = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_carry_the_variant_without_its_types() {
        let kernel = "Gather { tile: Tile { tm: 8, tx: 16 }, wide_x: true, class: Some(Amd) }";
        assert_eq!(
            name("conv_gather.wgsl", kernel),
            "conv_gather-tile-tm8-tx16-wide_x-true-class-Some-Amd"
        );
        assert_eq!(name("conv_pack.wgsl", "Pack"), "conv_pack");
    }
}
