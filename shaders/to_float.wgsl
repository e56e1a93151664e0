// Converts f16 to f32, four values per invocation.
//
// Template: `stored` is the element type of x, `load` the function that reads an element, `read`
// its call.

struct Params {
    values: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ stored }}>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

{{ load }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + local;
    let first = 4u * at;
    if (first >= params.values) {
        return;
    }
    let four = {{ read }};
    for (var n = 0u; n < min(4u, params.values - first); n++) {
        y[first + n] = four[n];
    }
}
