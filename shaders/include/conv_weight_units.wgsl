// Matrix units multiply tiles of f16, in which the rows (columns) of a position are consecutive,
// followed by padding. With taps along w, the position before the step comes first.
//
// Template: `element` is one row (column) or four, `stores` the functions that store four values.
const BEFORE: u32 = {{ before }}u;
const HALF: u32 = BEFORE + 16u;
var<workgroup> a_tile: array<{{ element }}, 2u * HALF * A_PITCH>;
var<workgroup> b_tile: array<{{ element }}, 2u * HALF * B_PITCH>;

{{ stores }}{{ more }}
// Returns where the n-th row (column) of a part of the tile is in the part, and in the tile. A part
// has the rows (columns) of `count` vec4, and `first` vec4 come before it.
fn place(n: u32, count: u32, first: u32, quarter: u32) -> vec2<u32> {
    return {{ place }};
}

// Writes a part of the sums of one tap: four rows and four columns per invocation. `missing` is NaN
// if some sums were not computed, else 0.
fn write_part(tile: vec2<u32>, part: vec2<u32>, to: u32, local: u32, missing: f32) {
    for (var i = local; i < 16u * THREADS; i += THREADS) {
        let row = place(i / (4u * TX), TY, part.x * TY, MQ);
        let column = place(i % (4u * TX), TX, part.y * TX, NQ);
        let at = tile + vec2(row.y, column.y);
        if (at.x < params.rows && at.y < params.columns) {
            let value = sums[row.x * SUMS_PITCH + column.x] + missing;
            dst[to + at.x * params.row_step + at.y * params.column_step] = value;
        }
    }
}
