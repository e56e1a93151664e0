// Loads of four values, for windows along t only: columns that are neighbours in a plane are
// neighbours for every tap. The columns of a vec4 are consecutive, and in one plane.
struct Source {
    // The vec4 of tap (0, 0, 0) in channel 0, which may lie outside, and the taps along t that fall
    // into the source, one bit for each.
    base: u32,
    mask: u32,
    // The vec4 of the selected tap (0 where it falls outside), and whether it falls into the source.
    at: u32,
    ok: bool,
}

{{ conv_columns_wide.wgsl }}
fn locate(column0: u32, quad: u32, phase: Phase) -> Source {
    let position = decompose(first_column(column0, quad, phase), phase.lattice);
    let origin = vec3<i32>(position.yzw * params.stride) + phase.origin;
    let image = position.x * params.channels * params.src_plane / 4u;
    var source: Source;
    source.base = image + bitcast<u32>(element_of(origin) / 4);
    source.mask = inside(origin.x, phase.taps.x, params.src_size.x);
    return source;
}

// Selects a tap.
fn select_tap(source: ptr<function, Source>, tap: vec3<u32>, taps: vec3<u32>) {
    if (ONE_TAP) {
        (*source).at = (*source).base;
        return;
    }
    (*source).ok = ((*source).mask & (1u << tap.x)) != 0u;
    let at = (*source).base + bitcast<u32>(element_of(vec3<i32>(tap)) / 4);
    (*source).at = select(0u, at, (*source).ok);
}

// Returns the values of a channel whose first vec4 is `channel`.
fn fetch(source: Source, channel: u32) -> {{ four }} {
    return {{ values }};
}

fn masked(source: Source, value: {{ four }}) -> {{ four }} {
    if (ONE_TAP) {
        return value;
    }
    return select({{ four }}(), value, source.ok);
}
