// Matrix units multiply tiles of f16. A subgroup has the sums of its matrices, which become those of the
// invocations by way of workgroup memory.
//
// A tile has the values of a term beside each other, then some that are not used. `padding` says how
// many; `more` is what only matrix units or only invocations in their place need.
const A_PITCH: u32 = BM + {{ padding }}u;
const B_PITCH: u32 = BN + {{ padding }}u;
var<workgroup> a_tile: array<f16, 2u * BK * A_PITCH>;
var<workgroup> b_tile: array<f16, 2u * BK * B_PITCH>;

// Four rows of a term.
fn store_a(term: u32, quad: u32, value: vec4<f16>) {
    let at = term * A_PITCH + 4u * quad;
    a_tile[at] = value.x;
    a_tile[at + 1u] = value.y;
    a_tile[at + 2u] = value.z;
    a_tile[at + 3u] = value.w;
}

// Four columns of a term, which are in half precision already.
fn store_b(term: u32, quad: u32, value: vec4<f32>) {
    let at = term * B_PITCH + 4u * quad;
    let four = vec4<f16>(value);
    b_tile[at] = four.x;
    b_tile[at + 1u] = four.y;
    b_tile[at + 2u] = four.z;
    b_tile[at + 3u] = four.w;
}

{{ more }}
