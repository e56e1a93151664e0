// Weight gradient as an implicit matrix product over all positions p of the output,
//     dw[k, c, tap] = Σ_p dy[k, p] · x[c, p·stride − padding + tap],
// split over p into parts; each part writes its own matrix, and conv_sum.wgsl adds them up.
//
// A workgroup computes BM rows × BN columns, an invocation {{ tm }} × {{ tn }} of them. The tiles
// are double-buffered: the values of a step are loaded into registers while the previous step is
// multiplied, and a step needs one barrier. Loads and products are in one block without branches,
// so that no compiler waits for the loads before the products; values outside x become 0 when they
// are stored. An invocation loads the same rows and columns in every step, so their offsets are
// computed once.
//
// What the columns are, and how they are loaded (here: {{ loads }}):
//   Tap      Channels at one tap, which is the same for the whole workgroup, so that a position is
//            inside or outside x for all of them.
//   WideTap  Like Tap with four positions per load, if there are no taps along w.
//   Row      Channels with three taps along w each: the values of two neighbouring positions of both
//            operands give the sums of all three. A row is followed by one position at which both
//            operands are 0, so that no tap reaches into another row.
//   WideRow  Like Row with four positions per load and none between rows: at the start of a row, the
//            values before it count as 0. For matrix units, four positions separate rows.
//   Mixed    (channel, tap) in the order of the weights, for few channels: each column has its own
//            offset and tap bits.
// In the tiles of wide loads a vec4 holds four positions of one row (column), otherwise one
// position of four rows (columns) that are a quarter of the tile apart. So neighbouring invocations
// load neighbouring positions and write neighbouring columns, and tiles are stored as they are
// loaded.
//
// Template: `x_element` and `dy_element` are the elements of x and dy, `loads_from` the functions that
// load from them in half precision; the others are sizes and the text of unrolled loops.

const BM: u32 = {{ bm }}u;
const BN: u32 = {{ bn }}u;
const TX: u32 = {{ tx }}u;
const TY: u32 = {{ ty }}u;
const THREADS: u32 = {{ threads }}u;
// Positions per step; wide loads count groups of four.
const STEP: u32 = {{ step }}u;
// Sums per row and column: the taps along w.
const SUMS: u32 = {{ sums }}u;
// Rows and columns in a quarter of the tile.
const MQ: u32 = BM / 4u;
const NQ: u32 = BN / 4u;
// Distance between positions in {{ pitch_unit }}, chosen so that stores have no bank conflicts.
const A_PITCH: u32 = {{ a_pitch }}u;
const B_PITCH: u32 = {{ b_pitch }}u;

// With wide loads, sizes along w, of planes and of images count groups of four elements.
struct Params {
    in_size: vec3<u32>,
    // Elements per channel of x.
    in_plane: u32,
    // Positions as they are numbered: `Row` adds one to each row.
    out_size: vec3<u32>,
    // Elements per row (channel) of dy.
    out_plane: u32,
    stride: vec3<u32>,
    // Elements per image of x.
    in_image: u32,
    padding: vec3<i32>,
    positions: u32,
    window: vec3<u32>,
    // Number of taps that are divided among the workgroups.
    taps: u32,
    // Elements of dy along w.
    out_row: u32,
    // Positions per part.
    part_positions: u32,
    rows: u32,
    columns: u32,
    row_tiles: u32,
    // Strides of rows, columns and taps in the result.
    row_step: u32,
    column_step: u32,
    tap_step: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ x_element }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ dy_element }}>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

{{ tiles }}

{{ loads_from }}
{{ conv_index.wgsl }}
{{ helpers }}
@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,{{ subgroup }}
) {
    let rows = params.rows;
    let columns = params.columns;
    let size = params.in_size;
    let out_size = params.out_size;
    let stride = params.stride;

    // Row tiles vary fastest, then taps, so that they find the same values in the cache.
    let tile = group.x + group.y * groups.x;
    let row0 = (tile % params.row_tiles) * BM;
    let rest = tile / params.row_tiles;
    let tap = rest % params.taps;
    let column0 = (rest / params.taps) * BN;

    // This workgroup's share of the positions; none if it has no columns.
    let first = group.z * params.part_positions;
    let share = min(params.part_positions, params.positions - first);
    let count = select(0u, share, column0 < columns);
    let steps = (count + STEP - 1u) / STEP;

    // The next position that this invocation loads: its position in x, and its elements in row 0 of
    // dy and in channel 0 of x.
    let lane = local % STEP;
    let shift = vec3<i32>(decompose(tap, params.window).yzw) - params.padding;
    let start = decompose(first + lane, out_size);
    var x_position = vec3<i32>(start.yzw * stride) + shift;
    var a_at = start.x * rows * params.out_plane
        + (start.y * out_size.y + start.z) * params.out_row + start.w;
    var b_at = start.x * params.in_image
        + bitcast<u32>((x_position.x * i32(size.y) + x_position.y) * i32(size.z) + x_position.z);
    // Number of remaining positions, counted from lane 0.
    var remaining = i32(count);
    // At the end of a row, a plane or an image: how far the position moves back, and how far the
    // elements move forward.
    let span = vec3<i32>(out_size * stride);
    let limit = span + shift;
    let a_row = params.out_row - out_size.z;
    let a_image = (rows - 1u) * params.out_plane;
    let b_row = stride.y * size.z - out_size.z * stride.z;
    let b_plane = (stride.x * size.y - out_size.y * stride.y) * size.z;
    let b_image = params.in_image - out_size.x * stride.x * size.y * size.z;

    // A subgroup of 8 × 4 invocations reads the least from the tiles.
    let block = local / 32u;
    let tx = local % 8u + block / (TY / 4u) * 8u;
    let ty = local / 8u % 4u + block % (TY / 4u) * 4u;
    {{ declare }}
    {
        let half = 0u;
        {{ load }}
        {{ store }}
        {{ conv_advance.wgsl }}
    }
    workgroupBarrier();
    for (var step = 0u; step < steps; step++) {
        // After the last step, this loads elements of position 0, which are not used.
        {{ load }}
        {
            {{ multiply }}
        }
        // This half was last read in the previous iteration, before its barrier.
        let half = (step + 1u) & 1u;
        {{ store }}
        {{ conv_advance.wgsl }}
        workgroupBarrier();
    }

    let dst_first = group.z * rows * params.row_step + tap * SUMS * params.tap_step;
    {{ write }}
}
