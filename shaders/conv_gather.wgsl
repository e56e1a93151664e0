// Forward convolution and input gradient as one implicit matrix product
//     dst[m, column] = Σ over taps and channels of packed[tap, channel, m] · src[channel, position]
// where a column is one position of the destination's lattice in one image and `position` is where
// the tap, seen from that column, falls in the source. With a stride the input gradient splits into
// phases, lattices of positions that see the same taps; each is a product of its own. The taps of a
// phase are counted so that they ascend in the source.
//
// A workgroup makes BM rows × BN columns, an invocation {{ tm }} × {{ tn }} of them; a step is BK
// terms of the sums. In workgroup memory a vec4 holds four rows, or four columns, of one term: a
// term takes {{ tm }} + {{ tn }} registers beside the sums. The invocations lie in blocks 8 wide, so
// that a subgroup covers a compact part of the tile and its reads are few and without bank
// conflicts. A step's values are loaded into registers while the previous step is multiplied; with two
// buffers of the tiles a step needs one barrier, with one, which takes less memory, two. Whatever
// depends on the column is computed once, whatever depends on the tap when the tap changes, which
// leaves an addition for each load; values outside the source become 0 when they are stored, so that
// nothing waits for a load before the products.
//
// Template: `load` is the text that loads from the source; `element` and `result` are the elements of
// source and destination, one value or four, and `storage` the functions that load and store them
// where they are in half precision; `epilogue` is empty or gives something of each row for a
// normalisation, `epilogue_declarations` what it needs; `params` is the number of the last binding; `of_row` is the vec4 of a
// row in the packed weights, `free` what makes a buffer free; the others are sizes and the text of
// unrolled loops.

const BM: u32 = {{ bm }}u;
const BN: u32 = {{ bn }}u;
const TX: u32 = {{ tx }}u;
const TY: u32 = {{ ty }}u;
const THREADS: u32 = {{ threads }}u;
// Steps whose values the tiles hold.
const BUFFERS: u32 = {{ buffers }}u;
// Terms of a step, and channels.
const BK: u32 = {{ bk }}u;
const CHANNELS: u32 = {{ step_channels }}u;
// vec4 of rows and of columns.
const MQ: u32 = BM / 4u;
const NQ: u32 = BN / 4u;
// Whether there is only one tap, which every column sees.
const ONE_TAP: bool = {{ one_tap }};

{{ conv_phase.wgsl }}
struct Params {
    rows: u32,
    // vec4 of rows, padding included.
    quads: u32,
    channels: u32,
    // Terms of a tap, padding included.
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
    // Step of the columns in the source.
    stride: vec3<u32>,
    // Elements of one channel of the source.
    src_plane: u32,
    dst_step: vec3<u32>,
    // Steps of a tap, or of three along w that are taken together.
    tap_steps: u32,
    phases: array<Phase>,
}

@group(0) @binding(0) var<storage, read_write> src: array<{{ element }}>;
@group(0) @binding(1) var<storage, read_write> packed: array<{{ packed }}>;
@group(0) @binding(2) var<storage, read_write> dst: array<{{ result }}>;
{{ epilogue_declarations }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

{{ tiles }}

{{ storage }}
{{ conv_index.wgsl }}
{{ conv_mask.wgsl }}
// The element of a channel of the source at a position, which may lie outside.
fn element_of(position: vec3<i32>) -> i32 {
    let size = vec3<i32>(params.src_size);
    return (position.x * size.y + position.y) * size.z + position.z;
}

fn tap_bits(tap: vec3<u32>, taps: vec3<u32>) -> u32 {
    return (1u << tap.x) | (1u << (taps.x + tap.y)) | (1u << (taps.x + taps.y + tap.z));
}

{{ load_functions }}
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
    @builtin(local_invocation_index) local: u32,{{ subgroup }}
) {
    let rows = params.rows;
    let quads = params.quads;
    let phase = params.phases[group.z / params.parts];
    let part = group.z % params.parts;
    let columns = phase.columns;

    // Row tiles follow each other, so that they find the source's values in the cache.
    let tile = group.x + group.y * groups.x;
    let row0 = (tile % params.row_tiles) * BM;
    let column0 = (tile / params.row_tiles) * BN;
    if (column0 >= columns) {
        return;
    }

    // This workgroup's share of the steps.
    let all_steps = {{ steps }};
    let first = min(part * params.part_steps, all_steps);
    let end = min(first + params.part_steps, all_steps);

    // Where the next step's weights are; every invocation loads the same of each step's.
    var a_at = (phase.first_tap * params.depth + first * BK) * quads + row0{{ of_row }};
    // The columns that this invocation loads, the same in every step, and in which of its channels.
    let quad = local % NQ;
    let share = local / NQ;
    var source = locate(column0, quad, phase);
    {{ position }}
    {{ sums }}{{ declare }}
    if (first < end) {
        {{ load }}
        let half = 0u;
        {{ store }}
        {{ advance }}
    }
    workgroupBarrier();

    // Blocks 8 wide, one below the other.
    let tx = local % 8u + local / (8u * TY) * 8u;
    let ty = local / 8u % TY;
    for (var step = first; step < end; step++) {
        // The next step's values. After the last step these are some values that nothing reads: a
        // condition here would make the compiler wait for the loads where it ends.
        {{ load }}
        {{ multiply }}
        {{ free }}
        let half = (step - first + 1u) % BUFFERS;
        {{ store }}
        {{ advance }}
        workgroupBarrier();
    }

    {{ collect }}let dst_first = part * params.dst_len;
    let dst_plane = params.dst_plane;
    {{ write }}
    {{ epilogue }}
}
