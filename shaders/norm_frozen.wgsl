// Gradient of normalisation by given statistics, which are constants: dx = γ / √(var + ε)·g, where
// g is dy, set to 0 where the ReLU's output was 0; and g itself for the residual.
//
// Template: `element` is f32 or vec4<f32>; `output` declares the binding of y and `masked` that of
// g; `gradient` is g, `write` writes it and `write_dx` writes dx; `params` is the number of the
// last binding; `dy_stored` and `dx_stored` are the element types of dy and dx, `functions` load
// and store elements that are not f32.

alias Element = {{ element }};
const THREADS: u32 = 256u;

{{ norm_each.wgsl }}
@group(0) @binding(0) var<storage, read_write> dy: array<{{ dy_stored }}>;
@group(0) @binding(1) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(2) var<storage, read_write> variance: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<{{ dx_stored }}>;
{{ output }}
{{ masked }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

{{ functions }}
@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let share = share_of(group, groups, local);
    if (share.plane >= params.planes) {
        return;
    }
    let channel = share.channel;
    let scale = Element(gamma[channel] / sqrt(variance[channel] + params.epsilon));
    for (var step = 0u; step < STEPS; step++) {
        let inner = share.first + step * share.lanes;
        if (inner >= params.plane) {
            break;
        }
        let at = share.start + inner;
        let gradient = {{ gradient }};
        {{ write_dx }}
        {{ write }}
    }
}
