// Converts f32 to f16, four values per invocation, with zeros past the last value.
//
// Template: `stored` is the element type of y, `store` the function that writes an element, `write`
// its call.

struct Params {
    values: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<{{ stored }}>;
@group(0) @binding(2) var<storage, read> params: Params;

{{ store }}
fn value(at: u32) -> f32 {
    return select(0.0, x[min(at, params.values - 1u)], at < params.values);
}

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
    let four = vec4(value(first), value(first + 1u), value(first + 2u), value(first + 3u));
    {{ write }}
}
