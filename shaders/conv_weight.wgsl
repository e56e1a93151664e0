// Weight gradient as an implicit matrix product over all places p of the output,
//     dw[k, (c, tap)] = Σ_p dy[k, p] · x[c, p·stride − padding + tap],
// split over p; each split writes a matrix of its own, and conv_sum.wgsl adds them up.
//
// A workgroup makes BM rows × BN columns, an invocation {{ tm }} × {{ tn }} of them, 16 places per
// step. In memory the places lie side by side in both operands, so neighbouring invocations load
// neighbouring places. A vec4 of a tile holds four rows (columns) that are a quarter of the tile
// apart: the product then reads whole vec4, and writes neighbouring columns.
//
// Template: the tile's sizes and the text of unrolled loops.

const BM: u32 = {{ bm }}u;
const BN: u32 = {{ bn }}u;
const TX: u32 = {{ tx }}u;
const TY: u32 = {{ ty }}u;
const THREADS: u32 = {{ threads }}u;
const BK: u32 = 16u;
// Quarters of the tile, and one more vec4 per place against bank conflicts.
const MQ: u32 = BM / 4u;
const NQ: u32 = BN / 4u;
const A_PITCH: u32 = MQ + 1u;
const B_PITCH: u32 = NQ + 1u;
// Invocations that load the same place.
const SHARE: u32 = THREADS / BK;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: array<u32>;

var<workgroup> a_tile: array<vec4<f32>, BK * A_PITCH>;
var<workgroup> b_tile: array<vec4<f32>, BK * B_PITCH>;
// Of each column: its element relative to tap (0, 0, 0) in channel 0, and the bits of its tap.
var<workgroup> columns_of: array<vec2<u32>, BN>;

struct Source {
    // First elements of the place: of `dy` in row 0, of `x` in channel 0 at tap (0, 0, 0).
    a_at: u32,
    b_at: u32,
    // The taps that fall into `x`, one bit for each t, h and w; 0 past the last place.
    mask: u32,
    here: bool,
    // Elements of one row of `dy`; the last row.
    plane: u32,
    last: u32,
}

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

// Bits of the taps in 0..taps that fall into 0..size, seen from `origin`.
fn inside(origin: i32, taps: u32, size: u32) -> u32 {
    let low = u32(clamp(-origin, 0, i32(taps)));
    let high = u32(clamp(i32(size) - origin, 0, i32(taps)));
    return ((1u << high) - 1u) & ~((1u << low) - 1u);
}

fn a_value(source: Source, row: u32) -> f32 {
    return dy[source.a_at + min(row, source.last) * source.plane];
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
    let rows = params[0];
    let columns = params[1];
    let size = triple(2u);
    let out_size = triple(5u);
    let images = params[8];
    let channels = params[9];
    let row_tiles = params[11];
    let stride = triple(12u);
    let padding = vec3<i32>(triple(15u));
    let taps = triple(18u);
    let plane = size.x * size.y * size.z;

    let tile = group.x + group.y * groups.x;
    let row0 = (tile % row_tiles) * BM;
    let column0 = (tile / row_tiles) * BN;
    if (column0 >= columns) {
        return;
    }
    for (var i = local; i < BN; i += THREADS) {
        let tap = decompose(column0 + i, taps);
        let offset = tap.x * plane + (tap.y * size.y + tap.z) * size.z + tap.w;
        let bits = (1u << tap.y) | (1u << (taps.x + tap.z)) | (1u << (taps.x + taps.y + tap.w));
        // Bit 31 is in no mask: columns past the last are 0.
        columns_of[i] = vec2(offset, select(1u << 31u, bits, column0 + i < columns));
    }
    workgroupBarrier();

    // This workgroup's share of the places, in steps of BK.
    let steps = (images * out_size.x * out_size.y * out_size.z + BK - 1u) / BK;
    let first = min(group.z * params[10], steps);
    let end = min(first + params[10], steps);
    // The place that this invocation loads next, and its vec4 in the tiles.
    let lane = local % BK;
    let share = local / BK;
    var place = decompose(first * BK + lane, out_size);
    var source: Source;
    source.plane = out_size.x * out_size.y * out_size.z;
    source.last = rows - 1u;

    {{ declare }}
    let tx = local % TX;
    let ty = local / TX;
    for (var step = first; step <= end; step++) {
        if (step < end) {
            source.here = place.x < images;
            let origin = vec3<i32>(place.yzw * stride) - padding;
            let a_at = place.x * rows * source.plane
                + (place.y * out_size.y + place.z) * out_size.z + place.w;
            source.a_at = select(0u, a_at, source.here);
            let shift = (origin.x * i32(size.y) + origin.y) * i32(size.z) + origin.z;
            source.b_at = place.x * channels * plane + bitcast<u32>(shift);
            let bits = inside(origin.x, taps.x, size.x)
                | (inside(origin.y, taps.y, size.y) << taps.x)
                | (inside(origin.z, taps.z, size.z) << (taps.x + taps.y));
            source.mask = select(0u, bits, source.here);
            {{ load }}
            // On by BK places, digit by digit with carries: cheaper than four divisions.
            place += vec4(params[21], params[22], params[23], params[24]);
            if (place.w >= out_size.z) {
                place.w -= out_size.z;
                place.z++;
            }
            if (place.z >= out_size.y) {
                place.z -= out_size.y;
                place.y++;
            }
            if (place.y >= out_size.x) {
                place.y -= out_size.x;
                place.x++;
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

    let out_first = group.z * rows * columns;
    {{ write }}
}
