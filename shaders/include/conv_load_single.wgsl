// Loads of one value at a time, for any window and stride. {{ columns }}
struct Source {
    // For each column: the element of tap (0, 0, 0) in channel 0, which may lie outside, and the
    // taps that fall into the source, one bit for each t, h and w.
    base: vec4<u32>,
    mask: vec4<u32>,
    // For each column and the selected tap: its element (0 where it falls outside), and whether it
    // falls into the source.
    at: vec4<u32>,
    ok: vec4<bool>,
}

{{ conv_columns.wgsl }}
// Selects a tap.
fn select_tap(source: ptr<function, Source>, tap: vec3<u32>, taps: vec3<u32>) {
    if (ONE_TAP) {
        (*source).at = (*source).base;
        return;
    }
    let bits = vec4(tap_bits(tap, taps));
    (*source).ok = ((*source).mask & bits) == bits;
    let at = (*source).base + vec4(bitcast<u32>(element_of(vec3<i32>(tap))));
    (*source).at = select(vec4(0u), at, (*source).ok);
}

// Returns the values of a channel whose first element is `channel`.
fn fetch(source: Source, channel: u32) -> {{ four }} {
    return {{ four }}(
        {{ x }},
        {{ y }},
        {{ z }},
        {{ w }},
    );
}

fn masked(source: Source, value: {{ four }}) -> {{ four }} {
    if (ONE_TAP) {
        return value;
    }
    return select({{ four }}(), value, source.ok);
}
