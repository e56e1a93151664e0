// y = relu?((x − mean)·scale + β (+ residual)), each value once.
//
// Template: `element` is f32 or vec4<f32>; `residual` declares the binding and `add` its value
// (nothing and 0 without one); `relu`; `params` is the number of the last binding.

alias Element = {{ element }};
const RELU: bool = {{ relu }};

{{ norm_each.wgsl }}
@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> factors: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
{{ residual }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

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
    let channel = at / params.plane % params.channels;
    let mean = factors[3u * channel];
    let scale = factors[3u * channel + 1u];
    let shift = factors[3u * channel + 2u];
    var value = (x[at] - mean) * scale + shift + {{ add }};
    if (RELU) {
        value = max(value, Element(0.0));
    }
    y[at] = value;
}
