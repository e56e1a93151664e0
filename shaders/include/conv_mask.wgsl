// Returns a bit mask of the taps in 0..taps for which origin + tap is in 0..size.
fn inside(origin: i32, taps: u32, size: u32) -> u32 {
    let low = u32(clamp(-origin, 0, i32(taps)));
    let high = u32(clamp(i32(size) - origin, 0, i32(taps)));
    return ((1u << high) - 1u) & ~((1u << low) - 1u);
}

// Returns the masks of all three axes: t in the lowest bits, then h, then w.
fn inside_mask(origin: vec3<i32>, taps: vec3<u32>, size: vec3<u32>) -> u32 {
    return inside(origin.x, taps.x, size.x)
        | (inside(origin.y, taps.y, size.y) << taps.x)
        | (inside(origin.z, taps.z, size.z) << (taps.x + taps.y));
}
