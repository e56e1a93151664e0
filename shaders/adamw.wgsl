// One step of Adam or AdamW (Loshchilov & Hutter 2019, PyTorch's order of operations) over one
// parameter. With g the gradient times `scale`, plus `l2`·p:
//     m' = β1·m + (1 − β1)·g,  v' = β2·v + (1 − β2)·g²,
//     p' = `keep`·p − `size`·m' / (√v'·`inverse_root` + ε).
// New values may go to the buffers of the old ones: each is read before it is written.
//
// Template: `element` is f32, or vec4<f32> where the length is a multiple of 4.

alias Element = {{ element }};

struct Params {
    // Number of elements.
    elements: u32,
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

@group(0) @binding(0) var<storage, read_write> parameter: array<Element>;
@group(0) @binding(1) var<storage, read_write> gradient: array<Element>;
@group(0) @binding(2) var<storage, read_write> first: array<Element>;
@group(0) @binding(3) var<storage, read_write> second: array<Element>;
@group(0) @binding(4) var<storage, read_write> parameter_out: array<Element>;
@group(0) @binding(5) var<storage, read_write> first_out: array<Element>;
@group(0) @binding(6) var<storage, read_write> second_out: array<Element>;
@group(0) @binding(7) var<storage, read> params: Params;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 256u + local;
    if (at >= params.elements) {
        return;
    }
    let p = parameter[at];
    let g = gradient[at] * params.scale + p * params.l2;
    let m = first[at] * params.beta1 + g * params.gain1;
    let v = second[at] * params.beta2 + g * g * params.gain2;
    let step = m / (sqrt(v) * params.inverse_root + params.epsilon);
    parameter_out[at] = p * params.keep - step * params.size;
    first_out[at] = m;
    second_out[at] = v;
}
