// Matrix units multiply tiles of f16. A subgroup has the sums of its matrices, which become those of the
// invocations by way of workgroup memory.
//
// The tile of the weights has the terms of a row beside each other, as matrix units take them, that of the
// source the columns of a term, as they are loaded; then some values that are not used. `padding` says
// how many; `element` is one value or four, `together` how many, `store_a` and `store_b` store four; `more`
// is what only matrix units or only invocations in their place need.
const A_PITCH: u32 = (BK + {{ padding }}u) / {{ together }}u;
const B_PITCH: u32 = (BN + {{ padding }}u) / {{ together }}u;
var<workgroup> a_tile: array<{{ element }}, BUFFERS * BM * A_PITCH>;
var<workgroup> b_tile: array<{{ element }}, BUFFERS * BK * B_PITCH>;

// Four terms of a row.
fn store_a(row: u32, four: u32, value: vec4<f16>) {
    {{ store_a }}
}

// Four columns of a term.
fn store_b(term: u32, quad: u32, value: vec4<f16>) {
    {{ store_b }}
}

{{ more }}
