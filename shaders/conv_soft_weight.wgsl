// The weight gradient of conv_weight.wgsl for software rasterisers: an invocation keeps {{ tm }}
// rows of dw × {{ tn }} channels of one tap in registers and goes over all places. Both operands
// come as vec4 of four channels without any check (conv_soft_pack.wgsl).
//
// Template: as in conv_soft_gather.wgsl.

const TM: u32 = {{ tm }}u;
const TN: u32 = {{ tn }}u;
const THREADS: u32 = {{ threads }}u;
const LANES: u32 = {{ lanes }}u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: array<u32>;

fn triple(index: u32) -> vec3<u32> {
    return vec3(params[index], params[index + 1u], params[index + 2u]);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin({{ lane }}) lane: u32,
) {
    let rows = params[0];
    let channels = params[1];
    let images = params[2];
    // Of dy: extents; of x: extents after packing.
    let out_size = triple(3u);
    let extent = triple(6u);
    let stride = triple(9u);
    let window = triple(12u);
    let taps = window.x * window.y * window.z;
    let row_tiles = params[15];
    let columns = params[16];
    var tile = group.x + group.y * groups.x;
    if (LANES == 0u) {
        tile = tile * THREADS + lane;
    }
    let row0 = (tile % row_tiles) * TM;
    var column = tile / row_tiles;
    if (LANES > 0u) {
        column *= LANES;
    }
    if (column >= columns) {
        return;
    }
    if (LANES > 0u) {
        column += lane;
    }
    let here = column < columns;
    column = min(column, columns - 1u);
    let channel0 = (column / taps) * TN;
    let tap = column % taps;
    let tap_row = tap / window.z;
    let offset = (tap_row / window.y * extent.y + tap_row % window.y) * extent.z
        + tap % window.z;

    let x_depth = params[17];
    let dy_depth = params[18];
    let x_pitch = extent.x * extent.y * extent.z;
    let dy_pitch = out_size.x * out_size.y * out_size.z;
    {{ declare }}
    for (var image = 0u; image < images; image++) {
        var a_at = (image * dy_depth + row0 / 4u) * dy_pitch;
        for (var t = 0u; t < out_size.x; t++) {
            for (var h = 0u; h < out_size.y; h++) {
                var b_at = (image * x_depth + channel0 / 4u) * x_pitch + offset
                    + (t * stride.x * extent.y + h * stride.y) * extent.z;
                for (var w = 0u; w < out_size.z; w++) {
                    {{ multiply }}
                    a_at++;
                    b_at += stride.z;
                }
            }
        }
    }
    if (!here) {
        return;
    }
    {{ write }}
}
