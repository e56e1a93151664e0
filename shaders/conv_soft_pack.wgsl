// One or two tensors packed for the products in registers, the second one in the workgroups after
// the first one's.
//
// Template: `tensors` are the functions and buffers of each, `cases` their calls; `params` is the
// number of the last binding.

{{ conv_tensor.wgsl }}
struct Params {
    // Of each tensor.
    first_group: vec4<u32>,
    tensors: array<Tensor>,
}

{{ tensors }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let number = group.x + group.y * groups.x;
    {{ cases }}
}
