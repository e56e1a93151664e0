//! Every barrier and subgroup operation is reached by whole workgroups. naga does not check that;
//! browsers do, and FXC refuses whatever it cannot prove uniform.

use super::flow::under_varying_flow;
use super::{module, modules};

/// Returns a shader whose `main` has this body.
pub(super) fn shader(body: &str) -> String {
    format!(
        "struct Params {{ count: u32, list: array<u32> }}
        @group(0) @binding(0) var<storage, read_write> data: array<u32>;
        @group(0) @binding(1) var<storage, read> params: Params;
        var<workgroup> shared_data: array<u32, 64>;
        fn twice(x: u32) -> u32 {{ if (x > 9u) {{ return 18u; }} return x * 2u; }}
        fn meet() {{ workgroupBarrier(); }}
        @compute @workgroup_size(64) fn main(
            @builtin(workgroup_id) group: vec3<u32>,
            @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) local: u32,
        ) {{ {body} data[local] = params.count + shared_data[local]; }}"
    )
}

/// Bodies with a barrier that all invocations reach.
pub(super) const UNIFORM: [&str; 8] = [
    "workgroupBarrier();",
    "if (group.x + groups.x > params.count) { return; } workgroupBarrier();",
    "for (var half = 32u; half > 0u; half /= 2u) { workgroupBarrier(); }",
    "let end = min(params.list[group.z / params.count], 9u);
     for (var i = group.x; i < end; i++) {
         if (local < i) { shared_data[local] = i; } workgroupBarrier();
     }",
    "for (var i = twice(group.x); i < twice(params.count); i++) { meet(); }",
    "for (var i = local; i < params.count; i += 64u) { shared_data[local] += i; }
     workgroupBarrier();",
    "var i = 0u; loop { workgroupBarrier(); i++; if (i == params.count) { break; } }",
    "var i = 0u; loop { i++; if (i > 3u) { continue; } workgroupBarrier();
         continuing { break if i == params.count; } }",
];

/// Bodies with a barrier that some invocations may not reach.
pub(super) const VARYING: [&str; 11] = [
    "if (local == 0u) { workgroupBarrier(); }",
    "if (local == 0u) { return; } workgroupBarrier();",
    "if (data[0] == 0u) { return; } workgroupBarrier();",
    "if (shared_data[0] == 0u) { workgroupBarrier(); }",
    "for (var i = local; i < params.count; i += 64u) { workgroupBarrier(); }",
    "for (var i = 0u; i < data[0]; i++) { workgroupBarrier(); }",
    "for (var i = 0u; i < 9u; i++) { workgroupBarrier(); if (i == local) { break; } }",
    "var n = 0u; for (var i = 0u; i < 9u; i++) { if (n > 5u) { workgroupBarrier(); } n = i + local; }",
    "var n = 1u; if (local > 3u) { n = 2u; } if (n == 1u) { workgroupBarrier(); }",
    "if (twice(local) > 3u) { meet(); }",
    "switch (params.list[local]) { case 1u: { workgroupBarrier(); } default: {} }",
];

#[test]
fn barriers_and_subgroup_operations_are_reached_by_whole_workgroups() {
    let mut found = 0;
    for (text, module, _) in modules() {
        let faults = under_varying_flow(module);
        assert!(faults.is_empty(), "{}: {faults:?} under varying control flow", text.name);
        found += usize::from(text.source.contains("workgroupBarrier();"));
    }
    assert!(found > 20, "{found} texts with barriers");
}

#[test]
fn varying_control_flow_is_detected() {
    let faults_of = |source: &str| under_varying_flow(&module(source).unwrap().0);
    let faults = |body: &str| faults_of(&shader(body));
    for body in UNIFORM {
        assert!(faults(body).is_empty(), "{body}");
    }
    for body in VARYING {
        assert_eq!(faults(body), ["barrier"].into(), "{body}");
    }
    let subgroup = shader("if (local == 0u) { data[0] = subgroupBroadcast(local, 0u); }");
    assert_eq!(faults_of(&subgroup), ["subgroup operation"].into());

    let matrices = |body: &str| {
        let enabled = "enable f16;\nenable wgpu_cooperative_matrix;\n".to_owned();
        enabled + &shader(body) + "var<workgroup> floats: array<f32, 64>;"
    };
    let store = "coopStoreT(coop_mat8x8<f32, C>(), &floats[0], 8u);";
    assert!(faults_of(&matrices(store)).is_empty());
    let varying = matrices(&format!("if (local == 0u) {{ {store} }}"));
    assert_eq!(faults_of(&varying), ["matrix operation"].into());
    // Other operations on matrices are refused by naga.
    let load = "let loaded = coopLoadT<coop_mat8x8<f32, C>>(&floats[0], 8u);";
    assert!(module(&matrices(load)).is_ok());
    assert!(module(&matrices(&format!("if (local == 0u) {{ {load} }}"))).is_err());
}
