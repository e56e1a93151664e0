// Adds two gradients in half precision, four values per invocation.
//
// Template: `stored` is the element type of all three buffers, `load` and `store` are the functions
// that read and write an element, `sum` and `write` their calls.

struct Params {
    values: u32,
}

@group(0) @binding(0) var<storage, read_write> a: array<{{ stored }}>;
@group(0) @binding(1) var<storage, read_write> b: array<{{ stored }}>;
@group(0) @binding(2) var<storage, read_write> y: array<{{ stored }}>;
@group(0) @binding(3) var<storage, read> params: Params;

{{ load }}
{{ store }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + local;
    if (4u * at >= params.values) {
        return;
    }
    let sum = {{ sum }};
    {{ write }}
}
