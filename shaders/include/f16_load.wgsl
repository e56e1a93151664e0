fn load_{{ name }}(at: u32) -> vec4<f32> {
    return vec4<f32>({{ name }}[at]);
}
