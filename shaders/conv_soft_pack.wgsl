// A tensor [N, C, T, H, W] as [N, C / 4, T', H', W'] with four channels to a vec4, extended or cut
// to the positions from `low` on along each axis and zero outside: the products on a software
// rasteriser then load whole vec4 without bounds checks.

struct Params {
    size: vec3<u32>,
    channels: u32,
    // T', H', W'.
    extent: vec3<u32>,
    // vec4 of channels.
    depth: u32,
    low: vec3<i32>,
    // Elements of the result.
    total: u32,
}

@group(0) @binding(0) var<storage, read_write> src: array<f32>;
@group(0) @binding(1) var<storage, read_write> dst: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + local;
    if (at >= params.total) {
        return;
    }
    let channels = params.channels;
    let depth = params.depth;
    let size = params.size;
    let extent = params.extent;
    let row = at / extent.z;
    let plane = row / extent.y;
    let volume = plane / extent.x;
    let image = volume / depth;
    let position = vec3<i32>(vec3(plane % extent.x, row % extent.y, at % extent.z)) + params.low;
    let inside = all(position >= vec3(0)) && all(position < vec3<i32>(size));
    let channel = 4u * (volume % depth);
    let pitch = size.x * size.y * size.z;
    let first = (image * channels + channel) * pitch
        + u32((position.x * i32(size.y) + position.y) * i32(size.z) + position.z);
    var value = vec4(0.0);
    if (inside) {
        value.x = src[first];
        if (channel + 1u < channels) {
            value.y = src[first + pitch];
        }
        if (channel + 2u < channels) {
            value.z = src[first + 2u * pitch];
        }
        if (channel + 3u < channels) {
            value.w = src[first + 3u * pitch];
        }
    }
    dst[at] = value;
}
