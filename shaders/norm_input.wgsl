// dx = scale·(g − a − (x − mean)·b) per channel, and g itself for the residual.
//
// Template: as in norm_grads.wgsl; `masked` declares the residual's binding and `keep` writes it.

alias Element = {{ element }};

{{ norm_each.wgsl }}
@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> dy: array<Element>;
@group(0) @binding(2) var<storage, read_write> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
{{ output }}
{{ masked }}
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
    let first = at / params.plane % params.channels * 4u;
    let gradient = {{ gradient }};
    let apart = (x[at] - factors[first]) * factors[first + 3u];
    dx[at] = (gradient - factors[first + 2u] - apart) * factors[first + 1u];
    {{ keep }}
}
