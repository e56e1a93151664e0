// dst[i] = Σ parts[part, i], in the order of the parts: the second stage of a split reduction,
// which gives the same bits in every run. A part may have its channels after its taps; dst has them
// before.

struct Params {
    // Elements of the result.
    total: u32,
    parts: u32,
    // Channels and taps per row of the result; 1 and 1 if the parts have the same order as the
    // result.
    channels: u32,
    taps: u32,
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
    var next = at;
    // Four independent loads at a time.
    for (var part = 3u; part < params.parts; part += 4u) {
        let a = parts[next];
        let b = parts[next + total];
        let c = parts[next + 2u * total];
        let d = parts[next + 3u * total];
        sum = (((sum + a) + b) + c) + d;
        next += 4u * total;
    }
    for (var part = params.parts & ~3u; part < params.parts; part++) {
        sum += parts[next];
        next += total;
    }
    let column = at / params.channels;
    let row = column / params.taps;
    let channel = at - column * params.channels;
    let tap = column - row * params.taps;
    dst[(row * params.channels + channel) * params.taps + tap] = sum;
}
