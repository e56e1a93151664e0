//! naga accepts every shader and translates it for Vulkan, Direct3D and Metal, with the options that
//! wgpu passes for our launches: no bounds checks, no zeroing of workgroup memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::ModuleInfo;
use naga::{
    AddressSpace, Expression, Module, ResourceBinding, ShaderStage, StorageAccess, TypeInner,
};
use polyview::kernels::web::{uses_f16, uses_matrix_units, uses_subgroups};

use super::{module, modules};
use crate::common::skip;

const UNCHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Unchecked,
    buffer: BoundsCheckPolicy::Unchecked,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

/// Returns the bindings, each with whether a shader may write to it.
fn bindings(module: &Module) -> BTreeMap<ResourceBinding, bool> {
    let bound = module.global_variables.iter().filter_map(|(_, variable)| {
        let AddressSpace::Storage { access } = variable.space else { return None };
        Some((variable.binding?, access.contains(StorageAccess::STORE)))
    });
    bound.collect()
}

#[test]
fn naga_accepts_every_text_and_refuses_faults() {
    let (text, ..) = modules().find(|(text, ..)| text.file == "augment.wgsl").unwrap();
    let source = &text.source;
    for (from, to) in [("fn sample(", "fn sampel("), ("-> vec3<f32>", "-> vec2<f32>")] {
        assert!(source.contains(from));
        assert!(module(&source.replacen(from, to, 1)).is_err(), "{to}");
    }
}

/// Translates a module as wgpu does for a Vulkan device with this version of SPIR-V.
pub(super) fn spirv(
    source: &str,
    module: &Module,
    info: &ModuleInfo,
    version: (u8, u8),
) -> Vec<u32> {
    use spv::Capability as C;
    let mut capabilities = vec![C::Shader, C::Matrix];
    if uses_subgroups(source) {
        capabilities.extend([C::GroupNonUniform, C::GroupNonUniformVote]);
        capabilities.extend([C::GroupNonUniformArithmetic, C::GroupNonUniformBallot]);
        capabilities.extend([C::GroupNonUniformShuffle, C::GroupNonUniformShuffleRelative]);
        capabilities.push(C::GroupNonUniformQuad);
    }
    if uses_f16(source) {
        capabilities.extend([C::Float16, C::StorageBuffer16BitAccess]);
        capabilities.extend([C::UniformAndStorageBuffer16BitAccess, C::StorageInputOutput16]);
    }
    if uses_matrix_units(source) {
        capabilities.extend([C::CooperativeMatrixKHR, C::VulkanMemoryModel]);
    }
    let options = spv::Options {
        lang_version: version,
        flags: spv::WriterFlags::LABEL_VARYINGS,
        fake_missing_bindings: false,
        binding_map: bindings(module)
            .into_keys()
            .map(|at| {
                let info = spv::BindingInfo {
                    descriptor_set: at.group,
                    binding: at.binding,
                    binding_array_size: None,
                };
                (at, info)
            })
            .collect(),
        capabilities: Some(capabilities.into_iter().collect()),
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let pipeline =
        spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".to_owned() };
    spv::write_vec(module, info, &options, Some(&pipeline)).unwrap()
}

/// Returns the error that `spirv-val` reports for a module, if any.
fn spirv_fault(words: &[u32], environment: &str, folder: &Path) -> Option<String> {
    let file = folder.join("shader.spv");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(&file, bytes).unwrap();
    let output =
        Command::new("spirv-val").args(["--target-env", environment]).arg(&file).output().unwrap();
    let printed = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (!output.status.success()).then(|| printed.concat())
}

/// Checks whether `spirv-val` knows the extension for matrix units.
fn knows_matrices() -> bool {
    let printed = Command::new("spirv-val").arg("--version").output().unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();
    let year =
        printed.split_once(" v").and_then(|(_, version)| version.split('.').next()?.parse().ok());
    year.is_some_and(|year: u32| year >= 2024)
}

#[test]
fn spirv_of_every_text_is_valid() {
    if Command::new("spirv-val").arg("--version").output().is_err() {
        // On other systems shaders are not compiled to SPIR-V, and the texts are the same.
        let required = cfg!(target_os = "linux") && skip::forbidden("POLYVIEW_REQUIRE_WGPU");
        assert!(!required, "POLYVIEW_REQUIRE_WGPU=1, but there is no spirv-val");
        return skip::skip("no spirv-val on this machine");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut last = Vec::new();
    let knows_matrices = knows_matrices();
    let mut unchecked = 0;
    for (text, module, info) in modules() {
        if uses_matrix_units(&text.source) && !knows_matrices {
            assert!(!spirv(&text.source, module, info, (1, 6)).is_empty());
            unchecked += 1;
            continue;
        }
        // The versions that wgpu writes for the oldest devices with subgroups, and for current ones.
        for (version, environment) in [((1, 3), "vulkan1.1"), ((1, 6), "vulkan1.3")] {
            last = spirv(&text.source, module, info, version);
            let fault = spirv_fault(&last, environment, folder.path());
            assert_eq!(fault, None, "{} for {environment}", text.name);
        }
    }
    if unchecked > 0 {
        skip::skip(format!("spirv-val is too old for matrix units: {unchecked} texts"));
    }
    // A truncated module is invalid.
    last.pop();
    assert!(spirv_fault(&last, "vulkan1.3", folder.path()).is_some());
}

#[test]
fn hlsl_of_every_text_is_written() {
    // Direct3D has no matrix units in WGSL.
    for (text, module, info) in modules().filter(|(text, ..)| !uses_matrix_units(&text.source)) {
        let bound = bindings(module);
        let target = |register| hlsl::BindTarget { space: 0, register, ..Default::default() };
        // Subgroup operations and f16 need the newer compiler, DXC; all other texts are for FXC.
        let shader_model = match (uses_f16(&text.source), uses_subgroups(&text.source)) {
            (true, _) => hlsl::ShaderModel::V6_2,
            (false, true) => hlsl::ShaderModel::V6_0,
            (false, false) => hlsl::ShaderModel::V5_1,
        };
        let options = hlsl::Options {
            shader_model,
            binding_map: bound.keys().map(|at| (*at, target(at.binding))).collect(),
            fake_missing_bindings: false,
            special_constants_binding: Some(target(bound.len() as u32)),
            zero_initialize_workgroup_memory: false,
            restrict_indexing: false,
            force_loop_bounding: false,
            ..hlsl::Options::default()
        };
        let pipeline =
            hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".to_owned())) };
        let mut written = String::new();
        let entry = hlsl::Writer::new(&mut written, &options, &pipeline)
            .write(module, info, None)
            .unwrap_or_else(|error| panic!("{}: {error}", text.name))
            .entry_point_names;
        assert!(matches!(&entry[..], [Ok(_)]), "{}: {entry:?}", text.name);
        // Writable parameters would not count as uniform.
        let read_only = written.lines().filter(|line| line.starts_with("ByteAddressBuffer params"));
        assert_eq!(read_only.count(), 1, "{}", text.name);
        let written_to = bound.values().filter(|writable| **writable).count();
        let read_write = written.lines().filter(|line| line.starts_with("RWByteAddressBuffer "));
        assert_eq!(read_write.count(), written_to, "{}", text.name);
    }
}

#[test]
fn msl_of_every_text_is_written() {
    // Metal's matrices are 8×8.
    let is_for_metal = |source: &str| !source.contains("coop_mat16x16");
    for (text, module, info) in modules().filter(|(text, ..)| is_for_metal(&text.source)) {
        // naga passes the source of a matrix load to a function that takes a pointer to scalars.
        for (function, entry) in module.entry_points.iter().map(|entry| &entry.function).zip(0..) {
            for (_, expression) in function.expressions.iter() {
                let Expression::CooperativeLoad { data, .. } = expression else { continue };
                let pointer =
                    info.get_entry_point(entry)[data.pointer].ty.inner_with(&module.types);
                let base = pointer.pointer_base_type().unwrap();
                let base = base.inner_with(&module.types);
                assert!(matches!(base, TypeInner::Scalar(_)), "{}: {base:?}", text.name);
            }
        }
        let bound = bindings(module);
        let target = |(at, writable): (&ResourceBinding, &bool)| {
            let slot = Some(at.binding as u8);
            (*at, msl::BindTarget { buffer: slot, mutable: *writable, ..Default::default() })
        };
        let resources = msl::EntryPointResources {
            resources: bound.iter().map(target).collect(),
            immediates_buffer: None,
            // wgpu passes the lengths of runtime-sized arrays in a buffer of its own.
            sizes_buffer: Some(bound.len() as u8),
        };
        let options = msl::Options {
            // Subgroup operations came with Metal 2.1 on Macs, matrices with 2.3; wgpu's minimum is 2.0.
            lang_version: match (uses_matrix_units(&text.source), uses_subgroups(&text.source)) {
                (true, _) => (2, 3),
                (false, true) => (2, 1),
                (false, false) => (2, 0),
            },
            per_entry_point_map: [("main".to_owned(), resources)].into(),
            fake_missing_bindings: false,
            bounds_check_policies: UNCHECKED,
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: false,
            emit_int_div_checks: false,
            ..msl::Options::default()
        };
        let pipeline = msl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, "main".to_owned())),
            ..Default::default()
        };
        let (written, translation) = msl::write_string(module, info, &options, &pipeline)
            .unwrap_or_else(|error| panic!("{}: {error}", text.name));
        let entry = &translation.entry_point_names;
        assert!(matches!(&entry[..], [Ok(_)]), "{}: {entry:?}", text.name);
        assert!(written.contains("device Params const& params"), "{}", text.name);
    }
}
