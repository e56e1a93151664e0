// dst[i] = Σ parts[part, i], in the order of the parts: the second stage of a split reduction,
// the same bits in every run.

struct Params {
    // Elements of the result.
    total: u32,
    parts: u32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> dst: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let total = params.total;
    let at = (group.x + group.y * groups.x) * 64u + local;
    if (at >= total) {
        return;
    }
    var sum = 0.0;
    for (var part = 0u; part < params.parts; part++) {
        sum += parts[part * total + at];
    }
    dst[at] = sum;
}
