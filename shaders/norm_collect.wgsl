// Statistics that came with a convolution, one part for each of its tiles, merged to one part for
// each channel: a workgroup each.

const THREADS: u32 = 256u;

struct Params {
    // Parts of a channel, values of each but the last, values of a channel.
    parts: u32,
    part: u32,
    values: u32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> merged: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

// Count, mean, sum of squared deviations.
var<workgroup> found: array<vec3<f32>, THREADS>;

{{ norm_pairs.wgsl }}
@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let channel = group.x;
    var all = vec3(0.0);
    for (var part = local; part < params.parts; part += THREADS) {
        let at = 2u * (channel * params.parts + part);
        let count = min(params.part, params.values - part * params.part);
        all = merge(all, vec3(f32(count), parts[at], parts[at + 1u]));
    }
    found[local] = all;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            found[local] = merge(found[local], found[local + half]);
        }
    }
    if (local == 0u) {
        merged[2u * channel] = found[0].y;
        merged[2u * channel + 1u] = found[0].z;
    }
}
