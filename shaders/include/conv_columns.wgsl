fn column_of(quad: u32, part: u32) -> u32 {
    return {{ column }};
}

// Returns the base and the mask of a column.
fn locate_one(column: u32, phase: Phase) -> vec2<u32> {
    let position = decompose(min(column, phase.columns - 1u), phase.lattice);
    let origin = vec3<i32>(position.yzw * params.stride) + phase.origin;
    let image = position.x * params.channels * params.src_plane;
    return vec2(
        image + bitcast<u32>(element_of(origin)),
        inside_mask(origin, phase.taps, params.src_size),
    );
}

fn locate(column0: u32, quad: u32, phase: Phase) -> Source {
    let x = locate_one(column0 + column_of(quad, 0u), phase);
    let y = locate_one(column0 + column_of(quad, 1u), phase);
    let z = locate_one(column0 + column_of(quad, 2u), phase);
    let w = locate_one(column0 + column_of(quad, 3u), phase);
    var source: Source;
    source.base = vec4(x.x, y.x, z.x, w.x);
    source.mask = vec4(x.y, y.y, z.y, w.y);
    return source;
}
