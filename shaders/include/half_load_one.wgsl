// Loads one of the two values in a word.
fn load_{{ name }}(at: u32) -> f32 {
    return unpack2x16float({{ name }}[at >> 1u] >> (16u * (at & 1u))).x;
}
