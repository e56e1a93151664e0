// The weights as the products in tiles read them: packed[term, row / 4] with four rows to a vec4,
// rows and channels padded with zeros. The terms are in the order in which the product takes them.
// Neighbouring invocations write neighbouring rows; each reads all taps of its channel, which are
// contiguous.

struct Params {
    rows: u32,
    // vec4 of rows, padding included.
    quads: u32,
    channels: u32,
    // Channels with padding.
    depth: u32,
    // Elements of the weights between rows and between channels.
    row_stride: u32,
    channel_stride: u32,
    // Terms between the channels of a tap.
    channel_step: u32,
    tap_count: u32,
    // Of each packed tap: its index in the window, and the term of its first channel.
    taps: array<vec2<u32>>,
}

@group(0) @binding(0) var<storage, read_write> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<{{ element }}>;
@group(0) @binding(2) var<storage, read> params: Params;

{{ store }}fn value(row: u32, channel: u32, tap: u32) -> f32 {
    let ok = row < params.rows && channel < params.channels;
    let at = row * params.row_stride + channel * params.channel_stride + tap;
    return select(0.0, weight[select(0u, at, ok)], ok);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + local;
    let channel = at / params.quads;
    let quad = at - channel * params.quads;
    if (channel >= params.depth) {
        return;
    }
    let row = 4u * quad;
    for (var i = 0u; i < params.tap_count; i++) {
        let tap = params.taps[i];
        let term = tap.y + channel * params.channel_step;
        {{ write }}vec4(
            value(row, channel, tap.x),
            value(row + 1u, channel, tap.x),
            value(row + 2u, channel, tap.x),
            value(row + 3u, channel, tap.x),
        {{ written }};
    }
}
