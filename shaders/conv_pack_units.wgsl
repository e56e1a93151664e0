// Packs the weights for matrix units: packed[term / 4, row] with four terms per vec4, which are
// channels of one tap; rows and channels are padded with zeros. The terms are in the order in which
// the product reads them. Neighbouring invocations write neighbouring rows; each reads all taps of
// four channels.

{{ conv_pack_params.wgsl }}
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f16>>;

{{ store }}@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + local;
    let rows = params.padded_rows;
    let channel = at / rows * 4u;
    let row = at % rows;
    if (channel >= params.depth) {
        return;
    }
    for (var i = 0u; i < params.tap_count; i++) {
        let tap = params.taps[i];
        store_packed(term_of(channel, tap.y) / 4u * rows + row, vec4(
            value(row, channel, tap.x),
            value(row, channel + 1u, tap.x),
            value(row, channel + 2u, tap.x),
            value(row, channel + 3u, tap.x),
        ));
    }
}
