// Adds up the gradient sums that a convolution computed, one part for each of its tiles, to one
// part per channel. Each workgroup adds up one channel.

const THREADS: u32 = 256u;

struct Params {
    // Parts per channel.
    parts: u32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

var<workgroup> partials: array<vec2<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let channel = group.x;
    var all = vec2(0.0);
    for (var part = local; part < params.parts; part += THREADS) {
        let at = 2u * (channel * params.parts + part);
        all += vec2(parts[at], parts[at + 1u]);
    }
    partials[local] = all;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            partials[local] += partials[local + half];
        }
    }
    if (local == 0u) {
        sums[2u * channel] = partials[0].x;
        sums[2u * channel + 1u] = partials[0].y;
    }
}
