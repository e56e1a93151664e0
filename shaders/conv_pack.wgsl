// The weights as the products read them: packed[tap, channel / 4, row] with four channels to a
// vec4, rows and channels padded with zeros to whole tiles. Taps are in the order in which the
// product takes them. Neighbouring invocations write neighbouring rows; each reads all taps of its
// channels, which are contiguous.

struct Params {
    rows: u32,
    padded_rows: u32,
    channels: u32,
    // vec4 of channels per tap.
    depth: u32,
    // Elements of the weights between rows and between channels.
    row_stride: u32,
    channel_stride: u32,
    tap_count: u32,
    // Index in the window of each packed tap.
    window: array<u32>,
}

@group(0) @binding(0) var<storage, read_write> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> params: Params;

{{ conv_pack_weights.wgsl }}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    pack_weights(id.x, id.y);
}
