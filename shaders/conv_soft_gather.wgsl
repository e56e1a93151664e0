// The product of conv_gather.wgsl for software rasterisers: an invocation keeps {{ tm }}
// rows × {{ tn }} columns in registers, and there are no barriers. There a load costs over a
// hundred cycles, however wide it is and whether or not neighbours read the same values. So the
// source is packed as vec4 of four channels, with margins that make bounds checks unnecessary
// (conv_soft_pack.wgsl).
//
// A workgroup is one subgroup, whose invocations compute the same rows: each loads some of the
// weights and broadcasts them.
//
// Template: sizes and the text of unrolled loops. `packed` is the type of the weights: vec4<f32>
// if they are packed, f32 if they are read in place because nearly every one is used only once.

const TM: u32 = {{ tm }}u;
const TN: u32 = {{ tn }}u;
const LANES: u32 = {{ lanes }}u;

{{ conv_phase.wgsl }}
struct Params {
    // t, h, w of the padded source.
    src_extent: vec3<u32>,
    // Number of vec4 of channels per tap.
    depth: u32,
    dst_size: vec3<u32>,
    channels: u32,
    // Distance in the source between neighbouring columns, and the direction of the taps: 1 or −1.
    stride: vec3<u32>,
    direction: i32,
    dst_step: vec3<u32>,
    row_tiles: u32,
    // Strides of the weights for rows, channels (or vec4 of channels) and taps.
    weight_step: vec3<u32>,
    rows: u32,
    phases: array<Phase>,
}

@group(0) @binding(0) var<storage, read_write> src: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> packed: array<{{ packed }}>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

{{ conv_index.wgsl }}
// Returns the element of the source that tap (0, 0, 0) meets for a column, in channel 0.
fn src_of(column: u32, phase: Phase) -> u32 {
    let extent = params.src_extent;
    let at = decompose(column, phase.lattice);
    let position = at.yzw * params.stride + vec3<u32>(phase.origin);
    return (at.x * params.depth * extent.x + position.x) * extent.y * extent.z
        + position.y * extent.z + position.z;
}

// Returns the element of the destination for a column, in row 0.
fn dst_of(column: u32, phase: Phase) -> u32 {
    let size = params.dst_size;
    let at = decompose(column, phase.lattice);
    let position = at.yzw * params.dst_step;
    return at.x * params.rows * size.x * size.y * size.z + phase.dst_start
        + (position.x * size.y + position.y) * size.z + position.z;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let rows = params.rows;
    let extent = params.src_extent;
    let phase = params.phases[group.z];
    let taps = phase.taps;
    let columns = phase.columns;
    let tile = group.x + group.y * groups.x;
    let row0 = (tile % params.row_tiles) * TM;
    let first_column = (tile / params.row_tiles) * TN * LANES;
    if (first_column >= columns) {
        return;
    }
    let column0 = first_column + lane * TN;
    // Columns past the last repeat the last column and are not written.
    let last = columns - 1u;
    let pitch = extent.x * extent.y * extent.z;
    let row_step = params.weight_step.x;
    let channel_step = params.weight_step.y;
    {{ declare }}
    for (var t = 0u; t < taps.x; t++) {
        for (var h = 0u; h < taps.y; h++) {
            for (var w = 0u; w < taps.z; w++) {
                var b_at = u32(params.direction) * ((t * extent.y + h) * extent.z + w);
                let tap = phase.first_tap
                    + t * phase.tap_step.x + h * phase.tap_step.y + w * phase.tap_step.z;
                let a_at = tap * params.weight_step.z;
                for (var k = 0u; k < params.depth; k++) {
                    {{ multiply }}
                    b_at += pitch;
                }
            }
        }
    }
    let plane = params.dst_size.x * params.dst_size.y * params.dst_size.z;
    {{ write }}
}
