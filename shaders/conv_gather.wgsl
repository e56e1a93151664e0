// Forward convolution and input gradient as one implicit matrix product
//     dst[m, column] = Σ over taps and channels of packed[tap, channel, m] · src[channel, position]
// where a column is one position of the destination's lattice in one image and `position` is where
// the tap falls in the source for that column. With a stride, the input gradient splits into
// phases, which are lattices of positions that use the same taps; each phase is a separate product.
// The taps of a phase are numbered so that they ascend in the source.
//
// A workgroup computes BM rows × BN columns, an invocation {{ tm }} × {{ tn }} of them; a step is
// BK terms of the sums. In workgroup memory a vec4 holds four rows, or four columns, of one term: a
// term takes {{ tm }} + {{ tn }} registers in addition to the sums. The invocations are arranged in
// blocks 8 wide, so that a subgroup covers a compact part of the tile and its reads are few and
// free of bank conflicts. The values of a step are loaded into registers while the previous step is
// multiplied. With two buffers of the tiles, a step needs one barrier; with one, which takes less
// memory, two. Whatever depends on the column is computed once, and whatever depends on the tap
// when the tap changes, which leaves one addition per load. Values outside the source become 0 when
// they are stored, so that nothing waits for a load before the products.
//
// Template: `load` is the text that loads from the source; `element` and `result` are the elements
// of source and destination, one value or four, and `storage` the functions that load and store
// them in half precision; `epilogue` is empty or computes sums of each row for a normalisation,
// `epilogue_declarations` declares what it uses; `params` is the number of the last binding;
// `row_divisor` turns a row into its vec4 in the packed weights, `free` makes sure that a buffer
// may be overwritten; the others are sizes and the text of unrolled loops.

const BM: u32 = {{ bm }}u;
const BN: u32 = {{ bn }}u;
const TX: u32 = {{ tx }}u;
const TY: u32 = {{ ty }}u;
const THREADS: u32 = {{ threads }}u;
// Number of steps whose values the tiles hold.
const BUFFERS: u32 = {{ buffers }}u;
// Terms and channels per step.
const BK: u32 = {{ bk }}u;
const CHANNELS: u32 = {{ step_channels }}u;
// Number of vec4 of rows and of columns.
const MQ: u32 = BM / 4u;
const NQ: u32 = BN / 4u;
// Whether there is only one tap, which is inside the source for every column.
const ONE_TAP: bool = {{ one_tap }};

{{ conv_phase.wgsl }}
struct Params {
    rows: u32,
    // Number of vec4 of rows, including padding.
    quads: u32,
    channels: u32,
    // Terms per tap, including padding.
    depth: u32,
    src_size: vec3<u32>,
    // Elements per channel of the destination.
    dst_plane: u32,
    dst_size: vec3<u32>,
    // Number of parts that a long sum is split into, and steps per part.
    parts: u32,
    part_steps: u32,
    // Elements of the destination, which is the distance between parts.
    dst_len: u32,
    row_tiles: u32,
    // Whether one phase covers the whole destination.
    one_phase: u32,
    // Distance in the source between neighbouring columns.
    stride: vec3<u32>,
    // Elements per channel of the source.
    src_plane: u32,
    dst_step: vec3<u32>,
    // Steps per tap, or per three taps along w that are loaded together.
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
// Returns the element within a channel of the source at a position, which may lie outside.
fn element_of(position: vec3<i32>) -> i32 {
    let size = vec3<i32>(params.src_size);
    return (position.x * size.y + position.y) * size.z + position.z;
}

fn tap_bits(tap: vec3<u32>, taps: vec3<u32>) -> u32 {
    return (1u << tap.x) | (1u << (taps.x + tap.y)) | (1u << (taps.x + taps.y + tap.z));
}

{{ load_functions }}
// Returns the element of the destination for a column, in row 0.
fn dst_of(column: u32, phase: Phase) -> u32 {
    let plane = params.dst_plane;
    let image_len = params.rows * plane;
    // Columns are numbered in memory order.
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

    // Row tiles are consecutive, so that they find the source's values in the cache.
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

    // Where the next step's weights are; an invocation loads the same positions of every step.
    var a_at = (phase.first_tap * params.depth + first * BK) * quads + row0{{ row_divisor }};
    // The columns that this invocation loads in every step, and the first of its channels.
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

    // Blocks 8 wide, stacked vertically.
    let tx = local % 8u + local / (8u * TY) * 8u;
    let ty = local / 8u % TY;
    for (var step = first; step < end; step++) {
        // The next step's values. After the last step, these are arbitrary values that are not
        // used: a condition here would make the compiler wait for the loads at its end.
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
