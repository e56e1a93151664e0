// Loads four values from two words.
fn load_{{ name }}(at: u32) -> vec4<f32> {
    let words = {{ name }}[at];
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}
