// Packs one or two tensors for the products in registers. The workgroups of the second tensor
// follow those of the first.
//
// Template: `tensors` has the function and the bindings of each tensor, `cases` their calls;
// `params` is the number of the last binding.

{{ conv_tensor.wgsl }}
struct Params {
    // First workgroup of each tensor.
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
