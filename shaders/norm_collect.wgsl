// Merges the statistics that a convolution computed, one part for each of its tiles, into one part
// per channel. Each workgroup merges one channel.

const THREADS: u32 = 256u;

struct Params {
    // Parts per channel, values in each part but the last, values per channel.
    parts: u32,
    part: u32,
    values: u32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> merged: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

// Count, mean, sum of squared deviations.
var<workgroup> partials: array<vec3<f32>, THREADS>;

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
    partials[local] = all;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            partials[local] = merge(partials[local], partials[local + half]);
        }
    }
    if (local == 0u) {
        merged[2u * channel] = partials[0].y;
        merged[2u * channel + 1u] = partials[0].z;
    }
}
