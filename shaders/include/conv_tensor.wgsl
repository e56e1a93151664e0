// A tensor [N, C, T, H, W] packed as [N, C / 4, T', H', W'] with four channels per vec4. Each axis
// is extended or cropped to `extent` positions starting at `low`, with zeros outside the tensor, so
// that the products on a software rasteriser load whole vec4 without bounds checks.
struct Tensor {
    size: vec3<u32>,
    channels: u32,
    // T', H', W'.
    extent: vec3<u32>,
    // Number of vec4 of channels.
    depth: u32,
    low: vec3<i32>,
    // Elements of the result.
    total: u32,
}
