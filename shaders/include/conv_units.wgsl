// Matrix units multiply tiles of f16. A subgroup has the sums of its matrices, which become those of the
// invocations by way of workgroup memory.
//
// A tile has the values of a term beside each other, in vec4, then some that are not used. `padding`
// says how many; `more` is what only matrix units or only invocations in their place need.
const A_PITCH: u32 = MQ + {{ padding }}u / 4u;
const B_PITCH: u32 = NQ + {{ padding }}u / 4u;
var<workgroup> a_tile: array<vec4<f16>, BUFFERS * BK * A_PITCH>;
var<workgroup> b_tile: array<vec4<f16>, BUFFERS * BK * B_PITCH>;

// Four rows of a term.
fn store_a(term: u32, quad: u32, value: vec4<f16>) {
    a_tile[term * A_PITCH + quad] = value;
}

// Four columns of a term.
fn store_b(term: u32, quad: u32, value: vec4<f16>) {
    b_tile[term * B_PITCH + quad] = value;
}

{{ more }}
