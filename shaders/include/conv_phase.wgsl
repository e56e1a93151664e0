// Positions of the destination that see the same taps. They form a lattice: `Params.dst_step` apart
// along each axis, the first one `dst_start` elements into a channel.
struct Phase {
    // Positions along t, h, w, and in all images.
    lattice: vec3<u32>,
    columns: u32,
    // Taps along t, h, w, and which of the packed weights' taps the first one is.
    taps: vec3<u32>,
    first_tap: u32,
    // Where tap (0, 0, 0) of lattice position (0, 0, 0) falls in the source; may lie outside.
    origin: vec3<i32>,
    dst_start: u32,
    // Distance of neighbouring taps along t, h, w in the weights, and the number of taps.
    tap_step: vec3<u32>,
    tap_count: u32,
}
