// Matrix units multiply tiles of f16, which have the rows (columns) of a position beside each other and
// then some that are not used. With taps along w, the position before a step's comes first.
const BEFORE: u32 = {{ before }}u;
const HALF: u32 = BEFORE + {{ positions }}u;
var<workgroup> a_tile: array<f16, 2u * HALF * A_PITCH>;
var<workgroup> b_tile: array<f16, 2u * HALF * B_PITCH>;

// Four values of dy, the first at a position of the tile and an item of it; `a_next` apart in the tile.
fn store_a(position: u32, item: u32, value: vec4<f32>) {
    let at = position * A_PITCH + item;
    let four = vec4<f16>(value);
    a_tile[at] = four.x;
    a_tile[at + {{ a_next }}] = four.y;
    a_tile[at + 2u * {{ a_next }}] = four.z;
    a_tile[at + 3u * {{ a_next }}] = four.w;
}

// The same of x.
fn store_b(position: u32, item: u32, value: vec4<f32>) {
    let at = position * B_PITCH + item;
    let four = vec4<f16>(value);
    b_tile[at] = four.x;
    b_tile[at + {{ b_next }}] = four.y;
    b_tile[at + 2u * {{ b_next }}] = four.z;
    b_tile[at + 3u * {{ b_next }}] = four.w;
}

{{ more }}
// Writes a part of the sums, as many as four rows and four columns of every invocation, of one tap. Some
// are `missing`, which is NaN then and 0 else.
fn write_part(row0: u32, column0: u32, to: u32, local: u32, missing: f32) {
    for (var i = local; i < 16u * THREADS; i += THREADS) {
        let row = i / (4u * TX);
        let column = i % (4u * TX);
        if (row0 + row < params.rows && column0 + column < params.columns) {
            let at = (row0 + row) * params.row_step + (column0 + column) * params.column_step;
            dst[to + at] = sums[row * SUMS_PITCH + column] + missing;
        }
    }
}
