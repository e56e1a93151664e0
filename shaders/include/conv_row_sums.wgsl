// The sum of what the invocations have written to `{{ scratch }}` for a row of the tile: each has four
// of its rows in a vec4, and TX of them have a share of a row.
const ROW_QUADS: u32 = {{ row_quads }}u;
fn row_sum(row: u32) -> f32 {
    var sum = 0.0;
    for (var x = 0u; x < TX; x++) {
        sum += {{ scratch }}[(x * ROW_QUADS + row / 4u / TY) * TY + row / 4u % TY][row % 4u];
    }
    return sum;
}
