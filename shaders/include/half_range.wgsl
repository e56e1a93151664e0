// Clamps values to the range of f16, beyond which WGSL leaves the result indeterminate. NaN is
// recognised by its bits, because compilers may assume that there is none, and is kept: a run that
// diverged must be noticed.
fn in_half_range(value: vec4<f32>) -> vec4<f32> {
    let is_number = (bitcast<vec4<u32>>(value) & vec4(0x7fffffffu)) <= vec4(0x7f800000u);
    return select(value, clamp(value, vec4(-65504.0), vec4(65504.0)), is_number);
}
