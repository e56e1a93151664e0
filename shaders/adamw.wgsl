// One step of Adam or AdamW (Loshchilov & Hutter 2019, PyTorch's order of operations) over several
// parameters, one slot each. With g the gradient times `scale`, plus `l2`·p:
//     m' = β1·m + (1 − β1)·g,  v' = β2·v + (1 − β2)·g²,
//     p' = `keep`·p − `size`·m' / (√v'·`inverse_root` + ε).
//
// Template: `element` is f32, or vec4<f32> where every length is a multiple of 4; `bindings`
// declares the slots' buffers and `cases` updates one slot; `params` is the number of the last
// binding.

alias Element = {{ element }};

// One parameter.
struct Slot {
    // Number of elements, and the first workgroup that works on them.
    elements: u32,
    first_group: u32,
    keep: f32,
    l2: f32,
    beta1: f32,
    // 1 − β1.
    gain1: f32,
    beta2: f32,
    // 1 − β2.
    gain2: f32,
    size: f32,
    inverse_root: f32,
    epsilon: f32,
    scale: f32,
}

struct Params {
    count: u32,
    slots: array<Slot>,
}

{{ bindings }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

struct State {
    parameter: Element,
    first: Element,
    second: Element,
}

fn updated(state: State, gradient: Element, slot: Slot) -> State {
    let p = state.parameter;
    let g = gradient * slot.scale + p * slot.l2;
    let m = state.first * slot.beta1 + g * slot.gain1;
    let v = state.second * slot.beta2 + g * g * slot.gain2;
    let step = m / (sqrt(v) * slot.inverse_root + slot.epsilon);
    return State(p * slot.keep - step * slot.size, m, v);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let number = group.x + group.y * groups.x;
    var index = 0u;
    for (var i = 1u; i < params.count; i++) {
        index = select(index, i, number >= params.slots[i].first_group);
    }
    let slot = params.slots[index];
    let at = (number - slot.first_group) * 256u + local;
    if (at >= slot.elements) {
        return;
    }
    switch (index) {
        {{ cases }}
        default: {}
    }
}
