// How fast the device can multiply and add: each invocation has {{ chains }} sums, each of which
// waits only for itself, and nothing to load. sum = sum·factor + term, again and again; at the end
// an invocation writes all its sums added up, so that none of it can be left out.
//
// Template: `declare`, `multiply` and `sum` are the text of unrolled loops over the chains;
// `multiply` takes {{ unrolled }} turns.

@group(0) @binding(0) var<storage, read_write> sums: array<f32>;
// Invocations, rounds of {{ unrolled }} turns; bits of factor and term, which no compiler must know.
@group(0) @binding(1) var<storage, read_write> params: array<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = (group.x + group.y * groups.x) * 256u + local;
    if (invocation >= params[0]) {
        return;
    }
    let rounds = params[1];
    let factor = bitcast<f32>(params[2]);
    let term = bitcast<f32>(params[3]);
    // Another start for every chain: equal ones would be one.
    let start = f32(invocation % 1024u) / 1024.0;
    {{ declare }}
    for (var round = 0u; round < rounds; round++) {
        {{ multiply }}
    }
    sums[invocation] = {{ sum }};
}
