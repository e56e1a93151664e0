// Adds up what the invocations have written to `{{ scratch }}` for a row of the tile: each
// invocation writes four of its rows per vec4, and TX invocations share a row.
const ROW_QUADS: u32 = {{ row_quads }}u;
fn row_sum(row: u32) -> f32 {
    var sum = 0.0;
    for (var x = 0u; x < TX; x++) {
        sum += {{ scratch }}[(x * ROW_QUADS + row / 4u / TY) * TY + row / 4u % TY][row % 4u];
    }
    return sum;
}
