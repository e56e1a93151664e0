// One step of AdamW (Loshchilov & Hutter 2019, PyTorch's order of operations) over one parameter:
//     m' = β1·m + (1 − β1)·g,  v' = β2·v + (1 − β2)·g²,
//     p' = p·(1 − lr·wd) − lr / (1 − β1ᵗ) · m' / (√v' / √(1 − β2ᵗ) + ε),
// with g scaled, and Adam's decay times p added to it. New values may go to the buffers of the old
// ones: each is read before it is written.
//
// Template: `element` is f32, or vec4<f32> where the length is a multiple of 4.

alias Element = {{ element }};

@group(0) @binding(0) var<storage, read_write> parameter: array<Element>;
@group(0) @binding(1) var<storage, read_write> gradient: array<Element>;
@group(0) @binding(2) var<storage, read_write> first: array<Element>;
@group(0) @binding(3) var<storage, read_write> second: array<Element>;
@group(0) @binding(4) var<storage, read_write> parameter_out: array<Element>;
@group(0) @binding(5) var<storage, read_write> first_out: array<Element>;
@group(0) @binding(6) var<storage, read_write> second_out: array<Element>;
@group(0) @binding(7) var<storage, read_write> params: array<u32>;

fn real(index: u32) -> f32 {
    return bitcast<f32>(params[index]);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 256u + local;
    if (at >= params[0]) {
        return;
    }
    let p = parameter[at];
    let g = gradient[at] * real(1u) + p * real(2u);
    let m = first[at] * real(3u) + g * real(4u);
    let v = second[at] * real(5u) + g * g * real(6u);
    let step = m / (sqrt(v) * real(9u) + real(10u));
    parameter_out[at] = p * real(7u) - step * real(8u);
    first_out[at] = m;
    second_out[at] = v;
}
