// For a column with any channel and tap: return its element relative to tap (0, 0, 0) of channel 0,
// and the bits of its tap in a mask.
fn tap_offset(tap: vec4<u32>) -> u32 {
    let size = params.in_size;
    return tap.x * params.in_plane + (tap.y * size.y + tap.z) * size.z + tap.w;
}

fn tap_bits(tap: vec4<u32>) -> u32 {
    let taps = params.window;
    return (1u << tap.y) | (1u << (taps.x + tap.z)) | (1u << (taps.x + taps.y + tap.w));
}

