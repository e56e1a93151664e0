// The product of conv_gather.wgsl for software rasterisers: an invocation keeps {{ tm }} rows ×
// {{ tn }} columns in registers and meets no barrier. There a load costs over a hundred cycles,
// however wide it is and whether or not neighbours read the same, so the source comes as vec4 of
// four channels, without any check (conv_soft_pack.wgsl).
//
// Template: sizes and the text of unrolled loops. With `lanes` a workgroup is one subgroup of so
// many invocations that shares its rows: each loads some of the weights and passes them round.
// `lane` is the builtin that numbers them. `packed` is the type of the weights: vec4<f32> when
// they come from conv_pack.wgsl, f32 when they are read where they are because nearly every one is
// used only once.

const TM: u32 = {{ tm }}u;
const TN: u32 = {{ tn }}u;
const THREADS: u32 = {{ threads }}u;
const LANES: u32 = {{ lanes }}u;

@group(0) @binding(0) var<storage, read_write> src: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> packed: array<{{ packed }}>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: array<u32>;

// Words of the parameters: header, phases, the window's index of each tap of each phase.
const HEADER: u32 = 26u;
const PHASE: u32 = 13u;

fn triple(index: u32) -> vec3<u32> {
    return vec3(params[index], params[index + 1u], params[index + 2u]);
}

// (rest, t, h, w) of a number counted over `size`, w fastest.
fn decompose(number: u32, size: vec3<u32>) -> vec4<u32> {
    let row = number / size.z;
    let plane = row / size.y;
    let rest = plane / size.x;
    return vec4(rest, plane - rest * size.x, row - plane * size.y, number - row * size.z);
}

// Element of the source that tap (0, 0, 0) meets in a column, channel 0.
fn source_of(column: u32, phase: u32) -> u32 {
    let extent = triple(4u);
    let at = decompose(column, triple(phase));
    let place = at.yzw * triple(17u) + triple(phase + 6u);
    return (at.x * params[3] * extent.x + place.x) * extent.y * extent.z
        + place.y * extent.z + place.z;
}

// The element of the destination for a column, in row 0.
fn target_of(column: u32, phase: u32) -> u32 {
    let size = triple(8u);
    let at = decompose(column, triple(phase));
    let place = at.yzw * triple(21u) + triple(phase + 9u);
    return at.x * params[0] * params[7] + (place.x * size.y + place.y) * size.z + place.z;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin({{ lane }}) lane: u32,
) {
    let rows = params[0];
    let depth = params[3];
    let extent = triple(4u);
    let phase = HEADER + group.z * PHASE;
    let lattice = triple(phase);
    let taps = triple(phase + 3u);
    let columns = params[14] * lattice.x * lattice.y * lattice.z;
    let row_tiles = params[15];
    var tile = group.x + group.y * groups.x;
    if (LANES == 0u) {
        tile = tile * THREADS + lane;
    }
    let row0 = (tile % row_tiles) * TM;
    var column0 = (tile / row_tiles) * TN;
    if (LANES > 0u) {
        column0 *= LANES;
    }
    if (column0 >= columns) {
        return;
    }
    if (LANES > 0u) {
        column0 += lane * TN;
    }
    // Columns past the last repeat it and are not written.
    let last = columns - 1u;
    let pitch = extent.x * extent.y * extent.z;
    // Elements of the weights between rows, channels (or vec4 of them) and taps.
    let row_step = params[1];
    let channel_step = params[2];
    let tap_step = params[25];
    {{ declare }}
    var slot = params[phase + 12u];
    for (var t = 0u; t < taps.x; t++) {
        for (var h = 0u; h < taps.y; h++) {
            for (var w = 0u; w < taps.z; w++) {
                var b_at = params[20] * ((t * extent.y + h) * extent.z + w);
                var a_at = params[params[24] + slot] * tap_step;
                for (var k = 0u; k < depth; k++) {
                    {{ multiply }}
                    b_at += pitch;
                }
                slot++;
            }
        }
    }
    let plane = params[7];
    {{ write }}
}
