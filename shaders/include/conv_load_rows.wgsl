// Loads for windows of three taps along w, centred on the column: four values and their neighbours
// to the left and right give the values of all three taps. The columns of a vec4 are consecutive,
// and in one row.
struct Source {
    // The vec4 of tap (0, 0, 1) in channel 0, which may lie outside in t and h, and the taps that fall
    // into the source, one bit for each t and h.
    base: u32,
    mask: u32,
    // The vec4 in the first row of the image.
    first: u32,
    // Distance to the neighbours, 0 at the ends of the row.
    left: u32,
    right: u32,
    // The vec4 of the selected taps (of the first row where they fall outside), and whether they fall
    // into the source.
    at: u32,
    ok: bool,
}

// The values for three taps.
struct Row {
    values: {{ four }},
    left: {{ one }},
    right: {{ one }},
}

{{ conv_columns_wide.wgsl }}
fn locate(column0: u32, quad: u32, phase: Phase) -> Source {
    let position = decompose(first_column(column0, quad, phase), phase.lattice);
    let origin = vec3<i32>(position.yzw * params.stride) + phase.origin + vec3(0, 0, 1);
    let image = position.x * params.channels * params.src_plane / 4u;
    var source: Source;
    source.base = image + bitcast<u32>(element_of(origin) / 4);
    source.mask = inside_mask(origin, vec3(phase.taps.xy, 0u), params.src_size);
    source.first = image + position.w / 4u;
    source.left = select(0u, 1u, position.w != 0u);
    source.right = select(0u, 1u, position.w + 4u != params.src_size.z);
    return source;
}

// Selects the three taps of one t and h.
fn select_tap(source: ptr<function, Source>, tap: vec3<u32>, taps: vec3<u32>) {
    let bits = (1u << tap.x) | (1u << (taps.x + tap.y));
    (*source).ok = ((*source).mask & bits) == bits;
    let at = (*source).base + bitcast<u32>(element_of(vec3<i32>(tap)) / 4);
    (*source).at = select((*source).first, at, (*source).ok);
}

// Returns the values of a channel whose first vec4 is `channel`.
fn fetch(source: Source, channel: u32) -> Row {
    let at = source.at + channel;
    return Row({{ values }}, {{ left }}.w, {{ right }}.x);
}

// Return the values for the left, the middle and the right tap.
fn masked_left(source: Source, row: Row) -> {{ four }} {
    let left = select({{ one }}(), row.left, source.left != 0u);
    return select({{ four }}(), vec4(left, row.values.xyz), source.ok);
}

fn masked_middle(source: Source, row: Row) -> {{ four }} {
    return select({{ four }}(), row.values, source.ok);
}

fn masked_right(source: Source, row: Row) -> {{ four }} {
    let right = select({{ one }}(), row.right, source.right != 0u);
    return select({{ four }}(), vec4(row.values.yzw, right), source.ok);
}
