// dx = scale·(g − dβ / count − x̂·dγ / count), from the parts of dβ = Σ g and √(var + ε)·dγ =
// Σ g·(x − mean), which every invocation adds up.
//
// Template: as in norm_grads.wgsl; `dx_stored` is the element type of dx, and `write` writes an
// element.

alias Element = {{ element }};
const THREADS: u32 = 256u;

{{ norm_each.wgsl }}
@group(0) @binding(0) var<storage, read_write> x: array<{{ stored }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ dy_stored }}>;
@group(0) @binding(2) var<storage, read_write> kept: array<u32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<{{ dx_stored }}>;
@group(0) @binding(5) var<storage, read_write> d_gamma: array<f32>;
@group(0) @binding(6) var<storage, read_write> d_beta: array<f32>;
@group(0) @binding(7) var<storage, read> params: Params;

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
    var sum_g = 0.0;
    var sum_gx = 0.0;
    for (var part = 0u; part < params.parts; part++) {
        let at = 2u * (channel * params.parts + part);
        sum_g += parts[at];
        sum_gx += parts[at + 1u];
    }
    let mean = Element(bitcast<f32>(kept[channel]));
    let variance = bitcast<f32>(kept[params.row + channel]) + params.epsilon;
    let scale = Element(bitcast<f32>(kept[2u * params.row + channel]));
    {{ layer }}
    if (share.leads) {
        d_gamma[channel] = sum_gx / sqrt(variance);
        d_beta[channel] = sum_g;
    }
    let count = f32(params.values);
    let mean_gradient = Element(sum_g / count);
    let slope = Element(sum_gx / variance / count);
    for (var step = 0u; step < STEPS; step++) {
        let inner = share.first + step * share.lanes;
        if (inner >= params.plane) {
            break;
        }
        let at = share.start + inner;
        let deviation = {{ x }} - mean;
        let gradient = {{ gradient }};
        {{ write }}
    }
}
