// Forward convolution and input gradient as one implicit matrix product
//     dst[m, column] = Σ over taps and channels of packed[tap, channel, m] · src[channel, place]
// where a column is one place of the destination's lattice in one image and `place` is where the
// tap, seen from that column, falls in the source. With a stride the input gradient falls apart
// into phases, lattices of places that see the same taps; each is a product of its own.
//
// A workgroup makes BM rows × BN columns, an invocation {{ tm }} × {{ tn }} of them; a step is 8
// channels of one tap. Both tiles hold four channels to a vec4: neighbouring invocations then load
// neighbouring places of the source, and neither writing nor reading a tile meets bank conflicts.
// A step's values are on their way in registers while the previous step is multiplied, and two
// halves of the tiles take turns, so that a step needs one barrier. With 8 × 8 an invocation does
// 512 multiply-adds per step for 32 vec4 reads of workgroup memory and some 12 loads.
//
// Template: `flat` takes any mix of taps and channels per step, by table, for sources of few
// channels; the others are the tile's sizes and the text of unrolled loops.

const FLAT: bool = {{ flat }};
const BM: u32 = {{ bm }}u;
const BN: u32 = {{ bn }}u;
const TX: u32 = {{ tx }}u;
const TY: u32 = {{ ty }}u;
const THREADS: u32 = {{ threads }}u;
// vec4 of channels per step.
const KQ: u32 = 2u;

// Words of the parameters: header, phases, then the table of `flat`.
const HEADER: u32 = 26u;
const PHASE: u32 = 13u;

@group(0) @binding(0) var<storage, read_write> src: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: array<u32>;

var<workgroup> a_tile: array<vec4<f32>, 2u * KQ * BM>;
var<workgroup> b_tile: array<vec4<f32>, 2u * KQ * BN>;

// Where an invocation's loads of a step come from.
struct Source {
    // The place of tap (0, 0, 0); may lie outside.
    origin: vec3<i32>,
    // First element of the column's image, all channels.
    image: u32,
    // Whether the step's tap falls into the source, and its element in channel 0 (else 0).
    ok: bool,
    at: u32,
    // `flat`: the taps that fall into the source, one bit for each t, h and w.
    mask: u32,
    // Elements of one channel; the last channel.
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

// One value of `flat` by its entry in the table: element relative to tap (0, 0, 0) in channel 0,
// and the bits of its tap.
fn entry(source: Source, row: u32) -> f32 {
    let word = params[25] + 2u * row;
    let bits = params[word + 1u];
    let ok = (bits & source.mask) == bits;
    let value = src[select(0u, source.at + params[word], ok)];
    return select(0.0, value, ok);
}

// Four channels from `row` on. Past the last channel the weights are 0 and the value is that of
// the last, which the column sees anyway.
fn fetch(source: Source, row: u32) -> vec4<f32> {
    if (FLAT) {
        return vec4(
            entry(source, row),
            entry(source, row + 1u),
            entry(source, row + 2u),
            entry(source, row + 3u),
        );
    }
    let value = vec4(
        src[source.at + min(row, source.last) * source.plane],
        src[source.at + min(row + 1u, source.last) * source.plane],
        src[source.at + min(row + 2u, source.last) * source.plane],
        src[source.at + min(row + 3u, source.last) * source.plane],
    );
    return select(vec4(0.0), value, source.ok);
}

// The element of the destination for a column, in row 0.
fn target_of(column: u32, phase: u32, lattice: vec3<u32>) -> u32 {
    let rows = params[0];
    let plane = params[7];
    // One phase that covers everything: columns lie in memory as they are counted.
    if (params[24] != 0u) {
        let image = column / plane;
        return image * rows * plane + (column - image * plane);
    }
    let size = triple(8u);
    let at = decompose(column, lattice);
    let place = at.yzw * triple(21u) + triple(phase + 9u);
    return at.x * rows * plane + (place.x * size.y + place.y) * size.z + place.z;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = params[0];
    let padded_rows = params[1];
    let channels = params[2];
    // vec4 of channels per tap.
    let depth = params[3];
    let size = triple(4u);
    let splits = params[11];
    let row_tiles = params[15];
    let direction = bitcast<i32>(params[20]);
    let phase = HEADER + (group.z / splits) * PHASE;
    let lattice = triple(phase);
    let taps = triple(phase + 3u);
    let columns = params[14] * lattice.x * lattice.y * lattice.z;

    // Row tiles follow each other, so that they find the source's values in the cache.
    let tile = group.x + group.y * groups.x;
    let row0 = (tile % row_tiles) * BM;
    let column0 = (tile / row_tiles) * BN;
    if (column0 >= columns) {
        return;
    }

    // The column that this invocation loads, the same in every step.
    var source: Source;
    let column = column0 + local % BN;
    let place = decompose(column, lattice);
    let here = column < columns;
    source.plane = size.x * size.y * size.z;
    source.last = channels - 1u;
    source.image = place.x * channels * source.plane;
    source.origin = vec3<i32>(place.yzw * triple(17u)) + bitcast<vec3<i32>>(triple(phase + 6u));
    if (FLAT) {
        let bits = inside(source.origin.x, taps.x, size.x)
            | (inside(source.origin.y, taps.y, size.y) << taps.x)
            | (inside(source.origin.z, taps.z, size.z) << (taps.x + taps.y));
        source.mask = select(0u, bits, here);
        let steps = vec3<i32>(vec3(size.y * size.z, size.z, 1u));
        let shift = source.origin * steps;
        source.at = source.image + bitcast<u32>(shift.x + shift.y + shift.z);
    }

    // This workgroup's share of the steps.
    let blocks = depth / KQ;
    let steps = select(taps.x * taps.y * taps.z * blocks, blocks, FLAT);
    let first = min((group.z % splits) * params[12], steps);
    let end = min(first + params[12], steps);

    // Tap and block of channels of the next step to load.
    var block = first % blocks;
    // (A phase may have no taps at all.)
    var tap = decompose(first / blocks, max(taps, vec3(1u))).yzw;
    let a_first = params[phase + 12u] * depth * padded_rows + row0;

    {{ declare }}
    let tx = local % TX;
    let ty = local / TX;
    for (var step = first; step <= end; step++) {
        if (step < end) {
            if (!FLAT && (block == 0u || step == first)) {
                let seen = source.origin + direction * vec3<i32>(tap);
                source.ok = here && all(seen >= vec3(0)) && all(vec3<u32>(seen) < size);
                let offset = (seen.x * i32(size.y) + seen.y) * i32(size.z) + seen.z;
                source.at = select(0u, source.image + u32(offset), source.ok);
            }
            {{ load }}
            block++;
            if (block == blocks) {
                block = 0u;
                tap.z++;
                if (tap.z == taps.z) {
                    tap.z = 0u;
                    tap.y++;
                    if (tap.y == taps.y) {
                        tap.y = 0u;
                        tap.x++;
                    }
                }
            }
        }
        if (step != first) {
            let half = (step - 1u) & 1u;
            let a_base = half * KQ * BM + ty;
            let b_base = half * KQ * BN + tx;
            for (var kq = 0u; kq < KQ; kq++) {
                {{ multiply }}
            }
        }
        // This half was last read in the previous turn, which a barrier has ended.
        if (step < end) {
            let half = step & 1u;
            {{ store }}
        }
        workgroupBarrier();
    }

    let out_plane = params[7];
    let out_first = (group.z % splits) * params[13];
    {{ write }}
}
