// Source and weights packed for the products in registers, the weights in the workgroups after the
// source's. The weights become packed[tap, channel / 4, row] with four channels to a vec4, rows and
// channels padded with zeros to whole tiles.

{{ conv_tensor.wgsl }}
struct Params {
    // Of the source.
    size: vec3<u32>,
    source_channels: u32,
    extent: vec3<u32>,
    source_depth: u32,
    low: vec3<i32>,
    total: u32,
    // Of the weights.
    first_group: u32,
    // Workgroups side by side along the rows.
    row_groups: u32,
    rows: u32,
    padded_rows: u32,
    channels: u32,
    depth: u32,
    row_stride: u32,
    channel_stride: u32,
    tap_count: u32,
    window: array<u32>,
}

{{ source }}
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> packed: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> params: Params;

{{ conv_pack_weights.wgsl }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let number = group.x + group.y * groups.x;
    if (number < params.first_group) {
        let tensor = Tensor(
            params.size,
            params.source_channels,
            params.extent,
            params.source_depth,
            params.low,
            params.total,
        );
        pack0(number * 64u + local, tensor);
        return;
    }
    let weights = number - params.first_group;
    let quarter = weights / params.row_groups;
    if (quarter < params.depth) {
        pack_weights((weights - quarter * params.row_groups) * 64u + local, quarter);
    }
}
