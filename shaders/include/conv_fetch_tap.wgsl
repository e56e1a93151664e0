// Loads of four channels of one tap. Past the last channel the weights are 0 and the value is that
// of the last, which the column sees anyway.
fn fetch(source: Source, row: u32) -> vec4<f32> {
    let value = vec4(
        src[source.at + min(row, source.last) * params.src_plane],
        src[source.at + min(row + 1u, source.last) * params.src_plane],
        src[source.at + min(row + 2u, source.last) * params.src_plane],
        src[source.at + min(row + 3u, source.last) * params.src_plane],
    );
    return select(vec4(0.0), value, source.ok);
}
