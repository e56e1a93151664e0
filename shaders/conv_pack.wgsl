// The weights as the products read them: packed[slot, channel / 4, row] with four channels to a
// vec4, rows and channels padded with zeros to whole tiles. `slot` counts taps in the order in
// which the product takes them. Neighbouring invocations write neighbouring rows; each reads all
// taps of its channels, which lie side by side.

@group(0) @binding(0) var<storage, read_write> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> params: array<u32>;

// Words of the parameters before the taps.
const HEADER: u32 = 7u;

fn value(row: u32, channel: u32, tap: u32) -> f32 {
    let ok = row < params[0] && channel < params[2];
    let at = row * params[5] + channel * params[6] + tap;
    return select(0.0, weight[select(0u, at, ok)], ok);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let padded_rows = params[1];
    let depth = params[3];
    let row = id.x;
    let channel = 4u * id.y;
    if (row >= padded_rows) {
        return;
    }
    for (var slot = 0u; slot < params[4]; slot++) {
        let tap = params[HEADER + slot];
        packed[(slot * depth + id.y) * padded_rows + row] = vec4(
            value(row, channel, tap),
            value(row, channel + 1u, tap),
            value(row, channel + 2u, tap),
            value(row, channel + 3u, tap),
        );
    }
}
