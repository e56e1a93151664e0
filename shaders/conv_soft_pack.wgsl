// A tensor [N, C, T, H, W] as [N, C / 4, T', H', W'] with four channels to a vec4, extended or cut
// to the places `low` … of each axis and zero outside: the products on a software rasteriser then
// load whole vec4 and check nothing.

@group(0) @binding(0) var<storage, read_write> src: array<f32>;
@group(0) @binding(1) var<storage, read_write> dst: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> params: array<u32>;

fn triple(index: u32) -> vec3<u32> {
    return vec3(params[index], params[index + 1u], params[index + 2u]);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let total = params[0];
    let at = (group.x + group.y * groups.x) * 64u + local;
    if (at >= total) {
        return;
    }
    let channels = params[1];
    let depth = params[2];
    let size = triple(3u);
    let extent = triple(6u);
    let row = at / extent.z;
    let plane = row / extent.y;
    let volume = plane / extent.x;
    let image = volume / depth;
    let place = vec3<i32>(vec3(plane % extent.x, row % extent.y, at % extent.z))
        + bitcast<vec3<i32>>(triple(9u));
    let inside = all(place >= vec3(0)) && all(place < vec3<i32>(size));
    let channel = 4u * (volume % depth);
    let pitch = size.x * size.y * size.z;
    let first = (image * channels + channel) * pitch
        + u32((place.x * i32(size.y) + place.y) * i32(size.z) + place.z);
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
