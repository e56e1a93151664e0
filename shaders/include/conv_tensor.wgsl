// A tensor [N, C, T, H, W] as [N, C / 4, T', H', W'] with four channels to a vec4, extended or cut
// to the positions from `low` on along each axis and zero outside: the products on a software
// rasteriser then load whole vec4 without bounds checks.
struct Tensor {
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
