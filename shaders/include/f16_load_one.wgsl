fn load_{{ name }}(at: u32) -> f32 {
    return f32({{ name }}[at]);
}
