// The device's peak rate of fused multiply-adds: each invocation iterates sum = sum·factor + term
// in {{ chains }} independent chains and loads nothing. At the end it writes the total of its sums,
// so that no compiler can drop any of them.
//
// Template: `declare`, `multiply` and `sum` are the text of loops over the chains; `multiply` is
// {{ unrolled }} iterations, unrolled.

struct Params {
    invocations: u32,
    // Number of rounds of {{ unrolled }} iterations each.
    rounds: u32,
    // Read from memory, so that no compiler can fold them.
    factor: f32,
    term: f32,
}

@group(0) @binding(0) var<storage, read_write> sums: array<f32>;
@group(0) @binding(1) var<storage, read> params: Params;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = (group.x + group.y * groups.x) * 256u + local;
    if (invocation >= params.invocations) {
        return;
    }
    let rounds = params.rounds;
    let factor = params.factor;
    let term = params.term;
    // Chains start from different values: equal ones would be merged into one.
    let start = f32(invocation % 1024u) / 1024.0;
    {{ declare }}
    for (var round = 0u; round < rounds; round++) {
        {{ multiply }}
    }
    sums[invocation] = {{ sum }};
}
