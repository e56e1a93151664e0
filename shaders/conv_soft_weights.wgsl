// Packs the weights for the products in registers: packed[tap, channel / 4, row] with four channels
// per vec4, rows and channels padded with zeros to whole tiles. Taps are in the order in which the
// product reads them. Neighbouring invocations write neighbouring rows; each reads all
// taps of its channels, which are contiguous.

struct Params {
    rows: u32,
    padded_rows: u32,
    channels: u32,
    // Number of vec4 of channels per tap.
    depth: u32,
    // Strides of the weights for rows and channels.
    row_stride: u32,
    channel_stride: u32,
    tap_count: u32,
    // Index in the window of each packed tap.
    window: array<u32>,
}

@group(0) @binding(0) var<storage, read_write> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> params: Params;

fn value(row: u32, channel: u32, tap: u32) -> f32 {
    let ok = row < params.rows && channel < params.channels;
    let at = row * params.row_stride + channel * params.channel_stride + tap;
    return select(0.0, weight[select(0u, at, ok)], ok);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let padded_rows = params.padded_rows;
    let depth = params.depth;
    let row = id.x;
    let channel = 4u * id.y;
    if (row >= padded_rows) {
        return;
    }
    for (var tap = 0u; tap < params.tap_count; tap++) {
        let index = params.window[tap];
        packed[(tap * depth + id.y) * padded_rows + row] = vec4(
            value(row, channel, index),
            value(row, channel + 1u, index),
            value(row, channel + 2u, index),
            value(row, channel + 3u, index),
        );
    }
}
