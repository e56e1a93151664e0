//! Tests that every variant of every shader has the structs, bindings and workgroup size that Rust
//! assumes. They need no adapter.

use std::collections::BTreeSet;
use std::path::Path;

use naga::{
    AddressSpace, ArraySize, Handle, Module, Scalar, StorageAccess, StructMember, Type, TypeInner,
};

use super::{ShaderText, shader_texts};
use crate::kernels::layout::{Element, Field, Layout};

/// Parses a shader; `tests/it/shaders` checks that compilers accept it.
fn parse(text: &ShaderText, source: &str) -> Module {
    naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|error| panic!("{}: {}", text.name, error.emit_to_string(source)))
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

/// Returns the name of the type in WGSL.
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

/// Checks that the struct in the module has its layout in Rust.
fn check_layout(module: &Module, layout: &Layout) -> Result<(), String> {
    let mut found = module.types.iter().filter(|(_, ty)| ty.name.as_deref() == Some(layout.name));
    let (_, ty) = found.next().ok_or(format!("no struct {}", layout.name))?;
    let TypeInner::Struct { members, span } = &ty.inner else {
        return Err(format!("{} is not a struct", layout.name));
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

fn check(module: &Module, text: &ShaderText) -> Result<(), String> {
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
fn every_variant_has_the_layout_of_rust_and_every_file_has_a_variant() {
    let mut seen = BTreeSet::new();
    for text in shader_texts() {
        let name = &text.name;
        assert!(!text.source.contains("{{"), "{name}: a placeholder was left");
        let module = parse(&text, &text.source);
        check(&module, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
        seen.insert(text.file.to_owned());
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
fn a_different_layout_is_detected() {
    let texts = shader_texts();
    let text = |file: &str| texts.iter().find(|text| text.file == file).unwrap();
    let differs = |of: &ShaderText, from: &str, to: &str| {
        assert!(of.source.contains(from), "{}: no {from}", of.name);
        check(&parse(of, &of.source.replace(from, to)), of).is_err()
    };
    let augment = text("augment.wgsl");
    assert!(differs(augment, "brightness", "lightness"), "a field with another name");
    assert!(differs(augment, "    fill: f32,", "    fill: f32,\n    more: f32,"), "an extra field");
    let swapped = "    contrast_shift: f32,\n    contrast: f32,";
    let order = "    contrast: f32,\n    contrast_shift: f32,";
    assert!(differs(augment, order, swapped), "another order");
    let sum = text("conv_sum.wgsl");
    assert!(differs(sum, "    parts: u32,", "    parts: u32,\n    more: vec3<u32>,"), "a size");
    assert!(differs(sum, "@workgroup_size(64)", "@workgroup_size(32)"), "a workgroup size");
    let writable = "var<storage, read_write> params";
    assert!(differs(sum, "var<storage, read> params", writable), "parameters that are written");
    let phases = "more: vec4<u32>,\n    phases: array<Phase>,";
    assert!(differs(text("conv_gather.wgsl"), "phases: array<Phase>,", phases), "a tail's offset");
}
