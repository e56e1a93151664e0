@group(0) @binding({{ from }}) var<storage, read_write> src{{ n }}: array<{{ element }}>;
@group(0) @binding({{ to }}) var<storage, read_write> dst{{ n }}: array<vec4<f32>>;

{{ load }}
// Packs element `at` of the result.
fn pack{{ n }}(at: u32, tensor: Tensor) {
    if (at >= tensor.total) {
        return;
    }
    let channels = tensor.channels;
    let depth = tensor.depth;
    let size = tensor.size;
    let extent = tensor.extent;
    let row = at / extent.z;
    let plane = row / extent.y;
    let volume = plane / extent.x;
    let image = volume / depth;
    let position = vec3<i32>(vec3(plane % extent.x, row % extent.y, at % extent.z)) + tensor.low;
    let inside = all(position >= vec3(0)) && all(position < vec3<i32>(size));
    let channel = 4u * (volume % depth);
    let pitch = size.x * size.y * size.z;
    let first = (image * channels + channel) * pitch
        + u32((position.x * i32(size.y) + position.y) * i32(size.z) + position.z);
    var value = vec4(0.0);
    if (inside) {
        value.x = {{ x }};
        if (channel + 1u < channels) {
            value.y = {{ y }};
        }
        if (channel + 2u < channels) {
            value.z = {{ z }};
        }
        if (channel + 3u < channels) {
            value.w = {{ w }};
        }
    }
    dst{{ n }}[at] = value;
}
