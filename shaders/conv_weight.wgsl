// Weight gradient as an implicit matrix product over all positions p of the output,
//     dw[k, (c, tap)] = Σ_p dy[k, p] · x[c, p·stride − padding + tap],
// split over p; each split writes a matrix of its own, and conv_sum.wgsl adds them up.
//
// A workgroup makes BM rows × BN columns, an invocation {{ tm }} × {{ tn }} of them, 16 positions
// per step. In memory the positions lie side by side in both operands, so neighbouring invocations
// load neighbouring positions. A vec4 of a tile holds four rows (columns) that are a quarter of the
// tile apart: the product then reads whole vec4, and writes neighbouring columns.
//
// Template: the tile's sizes and the text of unrolled loops.

const BM: u32 = {{ bm }}u;
const BN: u32 = {{ bn }}u;
const TX: u32 = {{ tx }}u;
const TY: u32 = {{ ty }}u;
const THREADS: u32 = {{ threads }}u;
const BK: u32 = 16u;
// Quarters of the tile, and one more vec4 per position against bank conflicts.
const MQ: u32 = BM / 4u;
const NQ: u32 = BN / 4u;
const A_PITCH: u32 = MQ + 1u;
const B_PITCH: u32 = NQ + 1u;
// Invocations that load the same position.
const SHARE: u32 = THREADS / BK;

struct Params {
    in_size: vec3<u32>,
    // Elements of one channel of x.
    in_plane: u32,
    out_size: vec3<u32>,
    // Elements of one row of dy.
    out_plane: u32,
    stride: vec3<u32>,
    images: u32,
    padding: vec3<i32>,
    channels: u32,
    window: vec3<u32>,
    row_tiles: u32,
    // BK as (image, t, h, w) counted over `out_size`.
    advance: vec4<u32>,
    rows: u32,
    columns: u32,
    // Steps of BK positions, and steps of one part.
    steps: u32,
    part_steps: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

var<workgroup> a_tile: array<vec4<f32>, BK * A_PITCH>;
var<workgroup> b_tile: array<vec4<f32>, BK * B_PITCH>;
// Of each column: its element relative to tap (0, 0, 0) in channel 0, and the bits of its tap.
var<workgroup> columns_of: array<vec2<u32>, BN>;

struct Source {
    // First elements of the position: of `dy` in row 0, of `x` in channel 0 at tap (0, 0, 0).
    a_at: u32,
    b_at: u32,
    // The taps that fall into `x`, one bit for each t, h and w; 0 past the last position.
    mask: u32,
    here: bool,
    // The last row of `dy`.
    last: u32,
}

{{ conv_index.wgsl }}
{{ conv_mask.wgsl }}
fn a_value(source: Source, row: u32) -> f32 {
    return dy[source.a_at + min(row, source.last) * params.out_plane];
}

// dy in the rows of one vec4.
fn a_fetch(source: Source, row: u32) -> vec4<f32> {
    let value = vec4(
        a_value(source, row),
        a_value(source, row + MQ),
        a_value(source, row + 2u * MQ),
        a_value(source, row + 3u * MQ),
    );
    return select(vec4(0.0), value, source.here);
}

fn b_value(source: Source, column: u32) -> f32 {
    let entry = columns_of[column];
    let ok = (entry.y & source.mask) == entry.y;
    return select(0.0, x[select(0u, source.b_at + entry.x, ok)], ok);
}

// x in the columns of one vec4.
fn b_fetch(source: Source, column: u32) -> vec4<f32> {
    return vec4(
        b_value(source, column),
        b_value(source, column + NQ),
        b_value(source, column + 2u * NQ),
        b_value(source, column + 3u * NQ),
    );
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = params.rows;
    let columns = params.columns;
    let size = params.in_size;
    let out_size = params.out_size;
    let taps = params.window;

    let tile = group.x + group.y * groups.x;
    let row0 = (tile % params.row_tiles) * BM;
    let column0 = (tile / params.row_tiles) * BN;
    if (column0 >= columns) {
        return;
    }
    for (var i = local; i < BN; i += THREADS) {
        let tap = decompose(column0 + i, taps);
        let offset = tap.x * params.in_plane + (tap.y * size.y + tap.z) * size.z + tap.w;
        let bits = (1u << tap.y) | (1u << (taps.x + tap.z)) | (1u << (taps.x + taps.y + tap.w));
        // Bit 31 is in no mask: columns past the last are 0.
        columns_of[i] = vec2(offset, select(1u << 31u, bits, column0 + i < columns));
    }
    workgroupBarrier();

    // This workgroup's share of the positions, in steps of BK.
    let first = min(group.z * params.part_steps, params.steps);
    let end = min(first + params.part_steps, params.steps);
    // The position that this invocation loads next, and its vec4 in the tiles.
    let lane = local % BK;
    let share = local / BK;
    var position = decompose(first * BK + lane, out_size);
    var source: Source;
    source.last = rows - 1u;

    {{ declare }}
    let tx = local % TX;
    let ty = local / TX;
    for (var step = first; step <= end; step++) {
        if (step < end) {
            source.here = position.x < params.images;
            let origin = vec3<i32>(position.yzw * params.stride) - params.padding;
            let a_at = position.x * rows * params.out_plane
                + (position.y * out_size.y + position.z) * out_size.z + position.w;
            source.a_at = select(0u, a_at, source.here);
            let shift = (origin.x * i32(size.y) + origin.y) * i32(size.z) + origin.z;
            source.b_at = position.x * params.channels * params.in_plane + bitcast<u32>(shift);
            source.mask = select(0u, inside_mask(origin, taps, size), source.here);
            {{ load }}
            // BK positions further, digit by digit with carries: cheaper than four divisions.
            position += params.advance;
            if (position.w >= out_size.z) {
                position.w -= out_size.z;
                position.z++;
            }
            if (position.z >= out_size.y) {
                position.z -= out_size.y;
                position.y++;
            }
            if (position.y >= out_size.x) {
                position.y -= out_size.x;
                position.x++;
            }
        }
        if (step != first) {
            for (var k = 0u; k < BK; k++) {
                let a_base = k * A_PITCH + ty;
                let b_base = k * B_PITCH + tx;
                {{ multiply }}
            }
        }
        workgroupBarrier();
        if (step < end) {
            {{ store }}
        }
        workgroupBarrier();
    }

    let dst_first = group.z * rows * columns;
    {{ write }}
}
