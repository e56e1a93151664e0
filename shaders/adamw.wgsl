// One step of AdamW (Loshchilov & Hutter 2019, PyTorch's order of operations) over one parameter:
//     m' = β1·m + (1 − β1)·g,  v' = β2·v + (1 − β2)·g²,
//     p' = p·(1 − lr·wd) − lr / (1 − β1ᵗ) · m' / (√v' / √(1 − β2ᵗ) + ε),
// with g scaled. New values go to buffers of their own: whether the old ones are shared is not
// known here.
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
    let g = gradient[at] * real(1u);
    let m = first[at] * real(2u) + g * real(3u);
    let v = second[at] * real(4u) + g * g * real(5u);
    let step = m / (sqrt(v) * real(8u) + real(9u));
    parameter_out[at] = parameter[at] * real(6u) - step * real(7u);
    first_out[at] = m;
    second_out[at] = v;
}
