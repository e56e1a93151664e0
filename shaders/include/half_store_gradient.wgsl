// A value beyond the range becomes NaN: the bits of the largest value, with an exponent of all
// ones.
fn store_{{ name }}(at: u32, value: vec4<f32>) {
    let within = in_half_range(value);
    let overflow = select(vec4(0u), vec4(0x7c00u), abs(value) > vec4(65504.0));
    let words = vec2(pack2x16float(within.xy), pack2x16float(within.zw));
    {{ name }}[at] = words | overflow.xz | (overflow.yw << vec2(16u));
}
