// Forward convolution and input gradient as one implicit matrix product
//     dst[m, column] = Σ over taps and channels of packed[tap, channel, m] · src[channel, position]
// where a column is one position of the destination's lattice in one image and `position` is where
// the tap, seen from that column, falls in the source. With a stride the input gradient splits into
// phases, lattices of positions that see the same taps; each is a product of its own.
//
// A workgroup makes BM rows × BN columns, an invocation {{ tm }} × {{ tn }} of them; a step is 8
// channels of one tap. Both tiles hold four channels to a vec4: neighbouring invocations then load
// neighbouring positions of the source, and neither writing nor reading a tile has bank conflicts.
// The tiles are double-buffered: a step's values are loaded into registers while the previous step
// is multiplied, and a step needs one barrier. With 8 × 8 an invocation does 512 multiply-adds per
// step for 32 vec4 reads of workgroup memory and some 12 loads.
//
// Template: `flat` takes any mix of taps and channels per step, by table, for sources of few
// channels; `fetch` is the text that loads one or the other; `moments` is empty or writes the
// statistics of each row, `moments_bindings` what it needs; `params` is the number of the last
// binding; the others are the tile's sizes and the text of unrolled loops.

const FLAT: bool = {{ flat }};
const BM: u32 = {{ bm }}u;
const BN: u32 = {{ bn }}u;
const TX: u32 = {{ tx }}u;
const TY: u32 = {{ ty }}u;
const THREADS: u32 = {{ threads }}u;
// vec4 of channels per step.
const KQ: u32 = 2u;

{{ conv_phase.wgsl }}
struct Params {
    rows: u32,
    padded_rows: u32,
    channels: u32,
    // vec4 of channels per tap.
    depth: u32,
    src_size: vec3<u32>,
    // Elements of one channel of the destination.
    dst_plane: u32,
    dst_size: vec3<u32>,
    // Parts that a long sum is split into, and steps of each.
    parts: u32,
    part_steps: u32,
    // Elements of the destination, the distance of the parts.
    dst_len: u32,
    row_tiles: u32,
    // Whether one phase covers the whole destination.
    one_phase: u32,
    // Step of the columns in the source, and 1 or −1: the direction of the taps.
    stride: vec3<u32>,
    direction: i32,
    dst_step: vec3<u32>,
    // Elements of one channel of the source.
    src_plane: u32,
    phases: array<Phase>,
}

@group(0) @binding(0) var<storage, read_write> src: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
{{ moments_bindings }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

var<workgroup> a_tile: array<vec4<f32>, 2u * KQ * BM>;
var<workgroup> b_tile: array<vec4<f32>, 2u * KQ * BN>;

// Where an invocation's loads of a step come from.
struct Source {
    // The position of tap (0, 0, 0); may lie outside.
    origin: vec3<i32>,
    // First element of the column's image, all channels.
    image: u32,
    // Whether the step's tap falls into the source, and its element in channel 0 (else 0).
    ok: bool,
    at: u32,
    // `flat`: the taps that fall into the source, one bit for each t, h and w.
    mask: u32,
    // The last channel.
    last: u32,
}

{{ conv_index.wgsl }}
{{ conv_mask.wgsl }}
{{ fetch }}
// The element of the destination for a column, in row 0.
fn dst_of(column: u32, phase: Phase) -> u32 {
    let plane = params.dst_plane;
    let image_len = params.rows * plane;
    // Columns lie in memory as they are counted.
    if (params.one_phase != 0u) {
        let image = column / plane;
        return image * image_len + (column - image * plane);
    }
    let size = params.dst_size;
    let at = decompose(column, phase.lattice);
    let position = at.yzw * params.dst_step;
    return at.x * image_len + phase.dst_start
        + (position.x * size.y + position.y) * size.z + position.z;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = params.rows;
    let padded_rows = params.padded_rows;
    let channels = params.channels;
    let depth = params.depth;
    let size = params.src_size;
    let phase = params.phases[group.z / params.parts];
    let part = group.z % params.parts;
    let taps = phase.taps;
    let columns = phase.columns;

    // Row tiles follow each other, so that they find the source's values in the cache.
    let tile = group.x + group.y * groups.x;
    let row0 = (tile % params.row_tiles) * BM;
    let column0 = (tile / params.row_tiles) * BN;
    if (column0 >= columns) {
        return;
    }

    // The column that this invocation loads, the same in every step.
    var source: Source;
    let column = column0 + local % BN;
    let position = decompose(column, phase.lattice);
    let here = column < columns;
    source.last = channels - 1u;
    source.image = position.x * channels * params.src_plane;
    source.origin = vec3<i32>(position.yzw * params.stride) + phase.origin;
    if (FLAT) {
        source.mask = select(0u, inside_mask(source.origin, taps, size), here);
        let steps = vec3<i32>(vec3(size.y * size.z, size.z, 1u));
        let shift = source.origin * steps;
        source.at = source.image + bitcast<u32>(shift.x + shift.y + shift.z);
    }

    // This workgroup's share of the steps.
    let blocks = depth / KQ;
    let steps = select(phase.tap_count * blocks, blocks, FLAT);
    let first = min(part * params.part_steps, steps);
    let end = min(first + params.part_steps, steps);

    // Tap and block of channels of the next step to load.
    var block = first % blocks;
    // (A phase may have no taps at all.)
    var tap = decompose(first / blocks, max(taps, vec3(1u))).yzw;
    let a_first = phase.first_tap * depth * padded_rows + row0;

    {{ declare }}
    let tx = local % TX;
    let ty = local / TX;
    for (var step = first; step <= end; step++) {
        if (step < end) {
            if (!FLAT && (block == 0u || step == first)) {
                let seen = source.origin + params.direction * vec3<i32>(tap);
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
        // This half was last read in the previous iteration, before its barrier.
        if (step < end) {
            let half = step & 1u;
            {{ store }}
        }
        workgroupBarrier();
    }

    let dst_plane = params.dst_plane;
    let dst_first = part * params.dst_len;
    {{ write }}
    {{ moments }}
}
