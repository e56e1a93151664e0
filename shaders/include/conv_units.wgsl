// Matrix units multiply tiles of f16. A subgroup has the sums of its matrices, which are
// distributed to the invocations through workgroup memory.
//
// In the tile of the weights, the terms of a row are consecutive, as matrix units read them; in the
// tile of the source, the columns of a term are, as they are loaded. Each line ends with padding.
//
// Template: `padding` is the number of values of padding, `element` one value or four, `together`
// how many; `store_a` and `store_b` store four values; `more` is declarations that only matrix
// units, or only their emulation, need.
const A_PITCH: u32 = (BK + {{ padding }}u) / {{ together }}u;
const B_PITCH: u32 = (BN + {{ padding }}u) / {{ together }}u;
var<workgroup> a_tile: array<{{ element }}, BUFFERS * BM * A_PITCH>;
var<workgroup> b_tile: array<{{ element }}, BUFFERS * BK * B_PITCH>;

// Stores four terms of a row.
fn store_a(row: u32, four: u32, value: vec4<f16>) {
    {{ store_a }}
}

// Stores four columns of a term.
fn store_b(term: u32, quad: u32, value: vec4<f16>) {
    {{ store_b }}
}

{{ more }}
