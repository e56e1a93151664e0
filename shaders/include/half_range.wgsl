// The values within the range of f16, beyond which WGSL leaves the result open. NaN is told by its
// bits, whatever a compiler assumes of numbers, and stays: a run that went wrong is to be noticed.
fn in_half_range(value: vec4<f32>) -> vec4<f32> {
    let is_number = (bitcast<vec4<u32>>(value) & vec4(0x7fffffffu)) <= vec4(0x7f800000u);
    return select(value, clamp(value, vec4(-65504.0), vec4(65504.0)), is_number);
}
