//! Every shader, in every variant, passes the compiler's front end: no adapter needed.

use std::collections::BTreeSet;
use std::path::Path;

use naga::valid::{Capabilities, ValidationFlags, Validator};

/// All variants as (name that starts with the file's name, text). A new shader is added here.
fn variants() -> Vec<(String, String)> {
    let mut variants = polyview::augment::wgsl::shader_variants();
    variants.extend(polyview::conv::wgsl::shader_variants());
    variants.extend(polyview::norm::wgsl::shader_variants());
    variants.extend(polyview::optim::wgsl::shader_variants());
    variants.extend(polyview::bench::shader_variants());
    variants
}

fn validate(text: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    // No capability beyond those that every WebGPU device has; variants with subgroup operations
    // are for devices that have those.
    let capabilities = match text.contains("subgroupBroadcast") {
        true => Capabilities::SUBGROUP,
        false => Capabilities::empty(),
    };
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map(|_| ())
        .map_err(|e| e.emit_to_string(text))
}

#[test]
fn every_variant_is_valid_and_every_file_has_one() {
    let mut seen = BTreeSet::new();
    for (name, text) in variants() {
        validate(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!text.contains("{{"), "{name}: a placeholder was left");
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
fn a_fault_is_seen() {
    let (_, text) = variants().remove(0);
    assert!(validate(&text.replace("fn sample(", "fn sampel(")).is_err(), "an unknown name");
    assert!(validate(&text.replacen("-> vec3<f32>", "-> vec2<f32>", 1)).is_err(), "a wrong type");
}
