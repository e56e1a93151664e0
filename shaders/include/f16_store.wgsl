fn store_{{ name }}(at: u32, value: vec4<f32>) {
    {{ name }}[at] = vec4<f16>(in_half_range(value));
}
