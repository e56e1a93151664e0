//! Every shader, in every variant, passes the compiler's front end, and its structs have the layout
//! that Rust gives them: no adapter needed.

use std::collections::BTreeSet;
use std::path::Path;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{
    AddressSpace, ArraySize, Handle, Module, Scalar, StorageAccess, StructMember, Type, TypeInner,
};

use super::layout::{Element, Field, Layout};
use super::plan::Shader;
use crate::augment::wgsl::AugmentKernel;
use crate::bench::PeakKernel;
use crate::conv::wgsl::ConvKernel;
use crate::norm::wgsl::NormKernel;
use crate::optim::wgsl::OptimKernel;

/// One variant of a shader as it reaches the driver, and what Rust assumes of it.
struct Variant {
    /// Starts with the file's name.
    name: String,
    source: String,
    workgroup_size: u32,
    params: &'static Layout,
    records: &'static [&'static Layout],
}

/// All variants. A new family is added here.
fn variants() -> Vec<Variant> {
    fn of<K: Shader>(kernels: Vec<K>) -> impl Iterator<Item = Variant> {
        kernels.into_iter().map(|kernel| Variant {
            name: format!("{}, {kernel:?}", kernel.file()),
            source: kernel.source(),
            workgroup_size: kernel.workgroup_size(),
            params: kernel.params(),
            records: kernel.records(),
        })
    }
    of(AugmentKernel::variants())
        .chain(of(ConvKernel::variants()))
        .chain(of(NormKernel::variants()))
        .chain(of(OptimKernel::variants()))
        .chain(of(vec![PeakKernel]))
        .collect()
}

fn validate(text: &str) -> Result<Module, String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    // No capability beyond those that every WebGPU device has; variants with subgroup operations
    // are for devices that have those.
    let capabilities = match text.contains("subgroupBroadcast") {
        true => Capabilities::SUBGROUP,
        false => Capabilities::empty(),
    };
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(text))?;
    Ok(module)
}

fn scalar(scalar: &Scalar) -> String {
    let kind = match scalar.kind {
        naga::ScalarKind::Float => "f",
        naga::ScalarKind::Sint => "i",
        naga::ScalarKind::Uint => "u",
        other => panic!("{other:?} in a buffer"),
    };
    format!("{kind}{}", 8 * scalar.width)
}

/// The type as WGSL spells it.
fn spelled(module: &Module, ty: Handle<Type>) -> String {
    match &module.types[ty].inner {
        TypeInner::Scalar(of) => scalar(of),
        TypeInner::Vector { size, scalar: of } => format!("vec{}<{}>", *size as u8, scalar(of)),
        TypeInner::Array { base, size: ArraySize::Dynamic, .. } => {
            format!("array<{}>", spelled(module, *base))
        }
        _ => module.types[ty].name.clone().unwrap(),
    }
}

/// What differs between the struct in the module and its layout in Rust.
fn check_layout(module: &Module, layout: &Layout) -> Result<(), String> {
    let mut found = module.types.iter().filter(|(_, ty)| ty.name.as_deref() == Some(layout.name));
    let (_, ty) = found.next().ok_or(format!("no struct {}", layout.name))?;
    let TypeInner::Struct { members, span } = &ty.inner else {
        return Err(format!("{} is no struct", layout.name));
    };
    let describe = |member: &StructMember| {
        (member.name.clone().unwrap(), spelled(module, member.ty), member.offset as usize)
    };
    let members: Vec<_> = members.iter().map(describe).collect();
    let field = |&Field { name, ty, offset }: &Field| (name.to_owned(), ty.to_owned(), offset);
    let mut want: Vec<_> = layout.fields.iter().map(field).collect();
    match &layout.tail {
        Some(tail) => {
            let element = match &tail.element {
                Element::Value(name) => name,
                Element::Struct(layout) => layout.name,
            };
            want.push((tail.name.to_owned(), format!("array<{element}>"), layout.size));
        }
        None if *span as usize != layout.size => {
            return Err(format!("{}: {span} bytes, in Rust {}", layout.name, layout.size));
        }
        None => {}
    }
    match members == want {
        true => Ok(()),
        false => Err(format!("{}: {members:?}, in Rust {want:?}", layout.name)),
    }
}

fn check(module: &Module, text: &Variant) -> Result<(), String> {
    for layout in text.records.iter().copied().chain([text.params]) {
        check_layout(module, layout)?;
    }
    let bound = module.global_variables.iter().filter_map(|(_, variable)| {
        let binding = variable.binding.as_ref()?.binding;
        let AddressSpace::Storage { access } = variable.space else { return None };
        let writable = access.contains(StorageAccess::STORE);
        Some((binding, variable.name.clone().unwrap(), spelled(module, variable.ty), writable))
    });
    let mut bound: Vec<_> = bound.collect();
    bound.sort();
    if bound.iter().enumerate().any(|(n, (binding, ..))| n != *binding as usize) {
        return Err(format!("bindings are not numbered 0, 1, …: {bound:?}"));
    }
    let is_params = |(_, name, ty, writable): &(u32, String, String, bool)| {
        name == "params" && ty == text.params.name && !writable
    };
    if !bound.last().is_some_and(is_params) {
        return Err(format!("the last binding is not the read-only parameters: {bound:?}"));
    }
    if bound.iter().rev().skip(1).any(|(.., writable)| !writable) {
        return Err(format!("operands may share an allocation, so all are read-write: {bound:?}"));
    }
    let size = module.entry_points[0].workgroup_size;
    match size == [text.workgroup_size, 1, 1] {
        true => Ok(()),
        false => Err(format!("workgroup size {size:?}, in Rust {}", text.workgroup_size)),
    }
}

#[test]
fn every_variant_is_valid_and_every_file_has_one() {
    let mut seen = BTreeSet::new();
    for variant in variants() {
        let name = &variant.name;
        let module = validate(&variant.source).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!variant.source.contains("{{"), "{name}: a placeholder was left");
        check(&module, &variant).unwrap_or_else(|error| panic!("{name}: {error}"));
        seen.insert(name.split(',').next().unwrap().to_owned());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".wgsl"))
        .collect();
    assert_eq!(seen, files);
}

#[test]
fn faults_are_detected() {
    let variants = variants();
    let text = |start: &str| variants.iter().find(|text| text.name.starts_with(start)).unwrap();
    let augment = text("augment.wgsl");
    let source = &augment.source;
    assert!(validate(&source.replace("fn sample(", "fn sampel(")).is_err(), "an unknown name");
    assert!(validate(&source.replacen("-> vec3<f32>", "-> vec2<f32>", 1)).is_err(), "a wrong type");

    let differs = |of: &Variant, from: &str, to: &str| {
        assert!(of.source.contains(from), "{}: no {from}", of.name);
        check(&validate(&of.source.replace(from, to)).unwrap(), of).is_err()
    };
    assert!(differs(augment, "brightness", "lightness"), "a field of another name");
    assert!(differs(augment, "    fill: f32,", "    fill: f32,\n    more: f32,"), "a field more");
    let swapped = "    contrast_shift: f32,\n    contrast: f32,";
    let order = "    contrast: f32,\n    contrast_shift: f32,";
    assert!(differs(augment, order, swapped), "another order");
    let sum = text("conv_sum.wgsl");
    assert!(differs(sum, "    parts: u32,", "    parts: u32,\n    more: vec3<u32>,"), "a size");
    assert!(differs(sum, "@workgroup_size(64)", "@workgroup_size(32)"), "a workgroup size");
    let gather = text("conv_gather.wgsl");
    assert!(differs(
        gather,
        "phases: array<Phase>,",
        "more: vec4<u32>,\n    phases: array<Phase>,"
    ));
}
