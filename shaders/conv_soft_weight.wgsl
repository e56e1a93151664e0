// The weight gradient of conv_weight.wgsl for software rasterisers: an invocation keeps {{ tm }}
// rows of dw × {{ tn }} channels of one tap in registers and loops over all positions. Both
// operands are packed as vec4 of four channels, with margins (conv_soft_pack.wgsl).
//
// A workgroup is one subgroup, whose invocations compute the same rows: each loads some values of
// dy and broadcasts them.
//
// Template: sizes and the text of unrolled loops.

const TM: u32 = {{ tm }}u;
const TN: u32 = {{ tn }}u;
const LANES: u32 = {{ lanes }}u;

struct Params {
    out_size: vec3<u32>,
    images: u32,
    // t, h, w of the padded x.
    x_extent: vec3<u32>,
    row_tiles: u32,
    stride: vec3<u32>,
    // Number of (channel tile, tap) pairs.
    columns: u32,
    window: vec3<u32>,
    taps: u32,
    rows: u32,
    channels: u32,
    // Number of vec4 of channels of x and of dy.
    x_depth: u32,
    dy_depth: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let rows = params.rows;
    let channels = params.channels;
    let out_size = params.out_size;
    let extent = params.x_extent;
    let window = params.window;
    let taps = params.taps;
    let tile = group.x + group.y * groups.x;
    let row0 = (tile % params.row_tiles) * TM;
    let first_column = (tile / params.row_tiles) * LANES;
    if (first_column >= params.columns) {
        return;
    }
    let valid = first_column + lane < params.columns;
    let column = min(first_column + lane, params.columns - 1u);
    let channel0 = (column / taps) * TN;
    let tap = column % taps;
    let tap_row = tap / window.z;
    let offset = (tap_row / window.y * extent.y + tap_row % window.y) * extent.z
        + tap % window.z;

    let x_pitch = extent.x * extent.y * extent.z;
    let dy_pitch = out_size.x * out_size.y * out_size.z;
    {{ declare }}
    for (var image = 0u; image < params.images; image++) {
        var a_at = (image * params.dy_depth + row0 / 4u) * dy_pitch;
        for (var t = 0u; t < out_size.x; t++) {
            for (var h = 0u; h < out_size.y; h++) {
                var b_at = (image * params.x_depth + channel0 / 4u) * x_pitch + offset
                    + (t * params.stride.x * extent.y + h * params.stride.y) * extent.z;
                for (var w = 0u; w < out_size.z; w++) {
                    {{ multiply }}
                    a_at++;
                    b_at += params.stride.z;
                }
            }
        }
    }
    if (!valid) {
        return;
    }
    {{ write }}
}
