// The sums of conv_sum.wgsl for parts in the order of the result, written in half precision: an
// invocation computes four consecutive values. A single part is just converted.
//
// Template: `stored` is the element of dst, `store` the function that writes it, `write` its call.

struct Params {
    // Elements of the result.
    total: u32,
    parts: u32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> dst: array<{{ stored }}>;
@group(0) @binding(2) var<storage, read> params: Params;

{{ store }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let total = params.total;
    let at = (group.x + group.y * groups.x) * 64u + local;
    if (4u * at >= total) {
        return;
    }
    // Past the last element, it is read again; these values are not used.
    var next = min(vec4(4u * at) + vec4(0u, 1u, 2u, 3u), vec4(total - 1u));
    var sum = vec4(0.0);
    for (var part = 0u; part < params.parts; part++) {
        sum += vec4(parts[next.x], parts[next.y], parts[next.z], parts[next.w]);
        next += total;
    }
    {{ write }}
}
