fn store_{{ name }}(at: u32, value: vec4<f32>) {
    let within = in_half_range(value);
    {{ name }}[at] = vec2(pack2x16float(within.xy), pack2x16float(within.zw));
}
