// Positions of the destination that use the same taps. They form a lattice: `Params.dst_step` apart
// along each axis, starting `dst_start` elements into a channel.
struct Phase {
    // Number of positions along t, h, w, and in all images.
    lattice: vec3<u32>,
    columns: u32,
    // Number of taps along t, h, w, and the index of the first one among the taps of the weights.
    taps: vec3<u32>,
    first_tap: u32,
    // Position in the source of tap (0, 0, 0) for lattice position (0, 0, 0); may lie outside.
    origin: vec3<i32>,
    dst_start: u32,
    // Distance between neighbouring taps along t, h, w in the weights, and the number of taps.
    tap_step: vec3<u32>,
    tap_count: u32,
}
