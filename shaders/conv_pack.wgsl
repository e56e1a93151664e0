// Packs the weights for the products in tiles: packed[term, row / 4] with four rows per vec4, rows
// and channels padded with zeros. The terms are in the order in which the product reads them.
// Neighbouring invocations write neighbouring rows; each reads all taps of its channel, which are
// contiguous.

{{ conv_pack_params.wgsl }}
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;

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
        packed[term_of(channel, tap.y) * params.quads + quad] = vec4(
            value(row, channel, tap.x),
            value(row + 1u, channel, tap.x),
            value(row + 2u, channel, tap.x),
            value(row + 3u, channel, tap.x),
        );
    }
}
